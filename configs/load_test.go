package configs_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

var update = flag.Bool("update", false, "write the reports of testdata anew")

// hashOfSecret is bcrypt of "secret", at the lowest cost.
const hashOfSecret = "$2a$04$Ee.jgG6W/cx7L4aVEvQCG.K6QmBFqhyAwS2REdaaMTyPz2UifVyUG"

// small is the shortest file that loads.
const small = "hostname: registry.example.com\ntls: {mode: internal}\nupstream: http://127.0.0.1:5000\n"

func static(t *testing.T, yaml string) *configs.Config {
	t.Helper()
	c, err := configs.Parse("regward.yaml", []byte(yaml), configs.Options{Static: true})
	if err != nil {
		t.Fatalf("%v\nin:\n%s", err, yaml)
	}
	return c
}

func problems(t *testing.T, yaml string, o configs.Options) configs.Problems {
	t.Helper()
	c, err := configs.Parse("regward.yaml", []byte(yaml), o)
	if err == nil {
		return c.Warnings
	}
	var ps configs.Problems
	if !errors.As(err, &ps) {
		t.Fatalf("not Problems: %v", err)
	}
	return ps
}

// TestReports compares the whole report of each file in testdata with the one
// beside it.
func TestReports(t *testing.T) {
	for _, kind := range []string{"bad", "good"} {
		files, err := filepath.Glob("testdata/*." + kind + ".yaml")
		if err != nil || len(files) == 0 {
			t.Fatalf("no files: %v", err)
		}
		for _, file := range files {
			t.Run(filepath.Base(file), func(t *testing.T) {
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				ps := problems(t, string(data), configs.Options{Static: true})
				if bad := len(ps.Only(configs.Error)) > 0; bad != (kind == "bad") {
					t.Errorf("has errors: %v", bad)
				}
				report := strings.TrimSuffix(file, ".yaml") + ".txt"
				got := ps.Error() + "\n"
				if *update {
					if err := os.WriteFile(report, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(report)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), got); diff != "" {
					t.Errorf("report differs (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestFiveMistakesAreFiveReports(t *testing.T) {
	data, err := os.ReadFile("testdata/five.bad.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got := problems(t, string(data), configs.Options{Static: true}).Only(configs.Error); len(got) != 5 {
		t.Errorf("got %d reports:\n%v", len(got), got.Error())
	}
}

// TestDefaultsAreAnEmptyFile: what default.yaml says is what saying nothing means.
func TestDefaultsAreAnEmptyFile(t *testing.T) {
	documented := strings.Replace(string(configs.Defaults()), "\ntls:\n", "\ntls:\n  mode: internal\n", 1)
	documented = strings.Replace(documented, "\nupstream:\n", "\nupstream:\n  url: http://127.0.0.1:5000\n", 1)
	a, b := static(t, small), static(t, documented+"\nhostname: registry.example.com\n")
	values := func(c *configs.Config) (out []string) {
		for _, f := range c.Show() {
			out = append(out, f.Path+"="+f.Value)
		}
		return out
	}
	if diff := cmp.Diff(values(a), values(b)); diff != "" {
		t.Errorf("default.yaml differs from an empty file (-empty +documented):\n%s", diff)
	}
	if a.Version != b.Version {
		t.Errorf("versions differ: %s, %s", a.Version, b.Version)
	}
}

// TestDefaultsNameEveryField: each key of the schema stands in default.yaml.
func TestDefaultsNameEveryField(t *testing.T) {
	text := string(configs.Defaults())
	for _, f := range static(t, small+"tests: []").Show() {
		key := f.Path[strings.LastIndexByte(f.Path, '.')+1:]
		if !strings.Contains(key, "[") && !strings.Contains(text, key+":") {
			t.Errorf("default.yaml says nothing of %s", f.Path)
		}
	}
}

func TestDefaultValues(t *testing.T) {
	got := map[string]string{}
	for _, f := range static(t, small).Show() {
		got[f.Path] = f.Value
	}
	for path, want := range map[string]string{
		"listen": ":443", "tls.min_version": "1.2", "tls.http_listen": "off", "idle_timeout": "2m",
		"upstream.redirects": "follow", "upstream.connect_timeout": "5s", "upstream.header_timeout": "1m",
		"upstream.name": "127.0.0.1:5000", "upstream.credentials": "none",
		"uploads.lease": "1h", "limit_ip_prefix.v4": "32", "limit_ip_prefix.v6": "64",
		"cache.size": "10000", "cache.ttl": "1m", "cache.negative_ttl": "5s", "cache.stale": "10m",
		"token.ttl": "5m", "token.key_file": "/var/lib/regward/token.pem", "catalog": "filtered",
		"log.level": "info", "log.access": "stdout", "log.audit": "stdout", "health.listen": "127.0.0.1:9781",
		"admin.listen": "127.0.0.1:9780", "admin.pprof": "false", "state_dir": "/var/lib/regward",
		"shutdown_delay": "5s", "shutdown_timeout": "5m", "auth.case_sensitive": "false",
		"limits[0]": "failed_logins: failed_logins 10/15m per ip and user",
		"limits[1]": "failed_logins_ip: failed_logins 100/15m per ip",
	} {
		if got[path] != want {
			t.Errorf("%s: got %q, want %q", path, got[path], want)
		}
	}
}

// folder makes what the examples name, in a folder of its own.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cert, key := pair(t)
	for name, data := range map[string]string{
		"tls.crt": cert, "tls.key": key, "token.pem": key, "ca.pem": cert, "kubernetes-ca.pem": cert, "ldap-ca.pem": cert, "clients-ca.pem": cert, "clients.crl": "-----BEGIN X509 CRL-----",
		"htpasswd": "ann:" + hashOfSecret + "\nbob:" + hashOfSecret + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func pair(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "registry.example.com"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

// load writes yaml into dir and loads it, with /etc/regward meaning dir.
func load(t *testing.T, dir, yaml string, env map[string]string) (*configs.Config, error) {
	t.Helper()
	path := filepath.Join(dir, "regward.yaml")
	yaml = strings.ReplaceAll(yaml, "/etc/regward/", "")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return configs.Load(path, func(name string) string { return env[name] })
}

func TestExamplesLoad(t *testing.T) {
	files, err := filepath.Glob("examples/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%v: %v", files, err)
	}
	for _, file := range append(files, "init.yaml") {
		t.Run(file, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, err := load(t, folder(t), string(data), map[string]string{"REGISTRY_PASSWORD": "hidden", "NEXUS_PASSWORD": "hidden", "HARBOR_PASSWORD": "hidden", "HUB_TOKEN": "hidden", "REDIS_PASSWORD": "hidden", "LDAP_PASSWORD": "hidden", "TSIG_SECRET": "aGlkZGVu"})
			if err != nil {
				t.Fatal(err)
			}
			if len(c.Warnings) > 0 {
				t.Errorf("warnings:\n%v", c.Warnings.Error())
			}
			if _, err := configs.Parse(file, data, configs.Options{Static: true}); err != nil {
				t.Errorf("static: %v", err)
			}
		})
	}
}

func TestFilesAreChecked(t *testing.T) {
	const yaml = "hostname: a.example\nupstream: {url: 'https://r', ca_file: ca.pem, client_cert_file: tls.crt, client_key_file: other.key}\n" +
		"tls: {cert_file: tls.crt, key_file: other.key}\nauth: {htpasswd: htpasswd}\ntoken: {key_file: none.pem}\nadmin: {token_file: token}\n" +
		"rules: [{subjects: everyone, repositories: \"**\", allow: [pull, push]}]\n"
	dir := folder(t)
	_, otherKey := pair(t)
	for name, data := range map[string]string{
		"other.key": otherKey, "ca.pem": "no PEM", "token": "short\n",
		"htpasswd": "ann:" + hashOfSecret + "\nbob:$apr1$x$y\ncarol\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := load(t, dir, yaml, nil)
	var ps configs.Problems
	if !errors.As(err, &ps) {
		t.Fatalf("got %v", err)
	}
	var places []string
	for _, p := range ps.Only(configs.Error) {
		place := p.Path
		if place == "" {
			place = filepath.Base(p.File)
		}
		places = append(places, place)
		if strings.Contains(p.String(), hashOfSecret) || strings.Contains(p.String(), "$apr1$x") {
			t.Errorf("a hash is shown: %v", p)
		}
		if p.Line < 1 {
			t.Errorf("no line: %v", p)
		}
	}
	want := []string{"htpasswd", "htpasswd", "upstream.ca_file", "upstream.client_cert_file", "tls.cert_file", "token.key_file", "admin.token_file"}
	if diff := cmp.Diff(want, places); diff != "" {
		t.Errorf("problems (-want +got):\n%s\n%v", diff, err)
	}
}

func TestRelativeNamesStartFromTheFile(t *testing.T) {
	dir := folder(t)
	c, err := load(t, dir, "hostname: a.example\ntls: {cert_file: tls.crt, key_file: tls.key}\nupstream: http://r\nauth: {htpasswd: htpasswd}\nstate_dir: state\nlog: {access: access.log}\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{c.TLS.CertFile, c.Auth.Htpasswd, c.StateDir, c.Log.Access, c.Token.KeyFile} {
		if !strings.HasPrefix(got, dir+"/") {
			t.Errorf("%s is not below %s", got, dir)
		}
	}
	want := []string{dir + "/htpasswd", dir + "/regward.yaml", dir + "/state/tokens.yaml", dir + "/tls.crt", dir + "/tls.key"}
	if got := slices.Sorted(slices.Values(c.Files())); !slices.Equal(got, want) {
		t.Errorf("files: got %v, want %v", got, want)
	}
	if !c.Token.Create {
		t.Error("the default key is not made on first start")
	}
	if len(c.Auth.HtpasswdData) == 0 {
		t.Error("no htpasswd content")
	}
}

func TestVariables(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"NAME": "value", "FROM_FILE": secret, "TRICK": "x, username: root", "GONE_FILE": dir + "/gone"}
	for _, tt := range []struct{ in, want string }{
		{"${NAME}", "value"},
		{"a-${NAME}-${NAME}", "a-value-value"},
		{"${FROM}", "from a file"},
		{"${UNSET:-x}", "x"},
		{"${UNSET:-}", ""},
		{"${NAME:-x}", "value"},
		{"$$", "$"},
		{"$${NAME}", "${NAME}"},
		{"pa$word$", "pa$word$"},
		{"${TRICK}", "x, username: root"}, // never structure
		{"${UNSET}", "error: environment variable UNSET is not set, and neither is UNSET_FILE"},
		{"${GONE}", "error: GONE_FILE: " + dir + "/gone: no such file or directory"},
		{"${NAME", `error: "${" without a name and "}"`},
		{"${}", `error: "${" without a name and "}"`},
	} {
		yaml := small + "contact: '" + tt.in + "'\n"
		c, err := configs.Parse("regward.yaml", []byte(yaml), configs.Options{Getenv: func(n string) string { return env[n] }})
		var got string
		var ps configs.Problems
		if errors.As(err, &ps) {
			got = "error: " + ps.Only(configs.Error)[0].Msg
		} else {
			got = c.Contact
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestStaticNotesWhatItCannotSee(t *testing.T) {
	c := static(t, "hostname: ${HOST}\ntls: {cert_file: a, key_file: b}\nupstream: {url: '${UP}', username: a, password: '${P}'}\nauth: {htpasswd: h}\nrules: [{subjects: '${S}', repositories: \"**\", allow: pull}]\n")
	notes := c.Warnings.Only(configs.Note)
	if len(notes) != 7 {
		t.Errorf("got %d notes:\n%v", len(notes), notes.Error())
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	const secret = "hunter2-hunter2"
	dir := folder(t)
	a, err := load(t, dir, small+"auth: {htpasswd: htpasswd}\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := load(t, dir, "hostname: registry.example.com\ntls: {mode: internal}\nauth: {htpasswd: htpasswd}\nupstream: {url: http://r, username: u, password: "+secret+"}\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Upstreams[0].Password.Reveal(); got != secret {
		t.Fatalf("password: got %q", got)
	}
	for what, text := range map[string]string{
		"%+v": sprint("%+v", *b), "%#v": sprint("%#v", b.Upstreams[0]), "upstream": sprint("%v", b.Upstreams), "show": sprint("%v", b.Show()),
		"diff": strings.Join(configs.Diff(a, b), "\n"), "warnings": b.Warnings.Error(), "json": toJSON(t, b.Upstreams),
		"auth": toJSON(t, b.Auth) + sprint("%s %x", b.Auth.HtpasswdData, b.Auth.HtpasswdData),
	} {
		if strings.Contains(text, secret) || strings.Contains(text, hashOfSecret) {
			t.Errorf("%s shows a secret: %s", what, text)
		}
	}
	if !strings.Contains(b.Warnings.Error(), "a secret is written into the file") {
		t.Errorf("no warning:\n%v", b.Warnings)
	}
	if err := os.Chmod(filepath.Join(dir, "regward.yaml"), 0o644); err != nil {
		t.Fatal(err)
	}
	open, err := configs.Load(filepath.Join(dir, "regward.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(open.Warnings.Error(), "others may read this file (-rw-r--r--)") {
		t.Errorf("no warning:\n%v", open.Warnings)
	}
}

func TestOrigins(t *testing.T) {
	c, err := configs.Parse("regward.yaml", []byte(small+"contact: ${WHO}\n"), configs.Options{Getenv: func(n string) string {
		return map[string]string{"WHO": "ops"}[n]
	}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range c.Show() {
		got[f.Path] = f.Origin
	}
	for path, want := range map[string]string{"hostname": "regward.yaml:1", "tls.mode": "regward.yaml:2", "upstream.url": "regward.yaml:3", "contact": "environment WHO", "token.ttl": "default"} {
		if got[path] != want {
			t.Errorf("%s: got %q, want %q", path, got[path], want)
		}
	}
}

func TestValues(t *testing.T) {
	c := static(t, `
hostname: [Registry.Example.com, "10.0.0.7:8443", "::1", "[fd00::1]:5000"]
tls: {cert_file: a, key_file: b, min_version: 1.3, http_listen: ":80"}
upstreams: [{url: "https://nexus/repository/x/", shared_blobs: false, redirects: pass, name: nexus, assert_user: X-Forwarded-User, token_hosts: auth.docker.io}]
groups: {dev: ann, ops: [Bob, bob]}
rules:
  - {subjects: user:Ann, repositories: "a/**", allow: "*", from: 10.0.0.7}
limits: [{name: one, count: pulls, rate: 5/1h, burst: 7, exempt: [group:dev, 10.0.0.0/8, user:Root]}, {name: two, count: failed_logins, rate: 5/1h, exempt: 10.0.0.0/8}]
health: {listen: off}
admin: {listen: ["127.0.0.1:1", unix:/run/a.sock]}
uploads: {lease: 0}
`)
	if diff := cmp.Diff([]string{"registry.example.com", "10.0.0.7:8443", "::1", "[fd00::1]:5000"}, c.Hostname); diff != "" {
		t.Error(diff)
	}
	if c.TLS.Mode != configs.TLSFiles || c.TLS.Min() != 0x0304 || !slices.Equal(c.TLS.HTTPListen, []string{":80"}) {
		t.Errorf("tls: %+v", c.TLS)
	}
	u := c.Upstreams[0]
	if u.URL.String() != "https://nexus/repository/x" || u.Follow() || u.Credentials != "none" || u.Name != "nexus" || u.ConnectTimeout != configs.Duration(5*time.Second) {
		t.Errorf("upstream: %+v", u)
	}
	if diff := cmp.Diff(map[string][]string{"ann": {"dev"}, "bob": {"ops"}}, c.UserGroups()); diff != "" {
		t.Error(diff)
	}
	r := c.PolicyRules()[0]
	if r.Subjects[0].Name() != "ann" || !r.Allow.Has(auth.Delete) || r.From[0].String() != "10.0.0.7/32" || r.Where != "rules[0] at regward.yaml:7" {
		t.Errorf("rule: %+v", r)
	}
	if len(c.Limits) != 2 {
		t.Fatalf("the built in limits are not replaced: %+v", c.Limits)
	}
	l := c.Limits[0]
	if l.Rate.Burst != 7 || l.Rate.Events != 5 || l.Per != configs.PerClient || len(l.Exempt.Subjects) != 2 || l.Exempt.Subjects[1].Name() != "root" || len(l.Exempt.Networks) != 1 {
		t.Errorf("limit: %+v", l)
	}
	if c.Health.Listen != nil || len(c.Admin.Listen) != 2 || c.Uploads.Lease != 0 {
		t.Errorf("listeners: %v %v", c.Health, c.Admin)
	}
}

func TestDiff(t *testing.T) {
	head := "hostname: registry.example.com\ntls: {mode: internal}\nauth: {htpasswd: h}\n"
	from := static(t, head+`upstream: http://a:5000
groups: {coolteam: [ann]}
rules:
  - {subjects: group:coolteam, repositories: "coolteam/**", allow: [pull, push]}
  - {subjects: authenticated, repositories: "tools/**", allow: pull}
  - {subjects: everyone, repositories: "vault/**", deny: "*"}
limits: [{name: people, count: pulls, rate: 5/1h, per: user}, {name: old, count: requests, rate: 1/s}]
`)
	to := static(t, strings.Replace(head, "registry.example.com", "[registry.example.com, b.example.com]", 1)+`upstream: {url: "http://b:5000", username: u, password: "${P:-x}"}
groups: {coolteam: [bob]}
rules:
  - {subjects: everyone, repositories: "coolteam/**", allow: pull}
  - {subjects: group:coolteam, repositories: "coolteam/**", allow: [push]}
  - {subjects: authenticated, repositories: "tools/**", allow: pull, from: 10.0.0.0/8}
limits: [{name: people, count: pulls, rate: 50/1h, per: user, dry_run: true}]
listen: ":8443"
`)
	want := []string{
		"everyone gains pull on coolteam/**",
		"authenticated loses pull on tools/**",
		"everyone is no longer denied pull, push, delete on vault/**",
		"user:ann leaves group:coolteam",
		"user:bob joins group:coolteam",
		"limit people: 50/h pulls per user, dry run, was 5/h pulls per user",
		"limit old is gone: 1/s requests per client",
		"hostname: registry.example.com, b.example.com, was registry.example.com",
		"listen: :8443, was :443",
		"upstream.name: b:5000, was a:5000",
		"upstream.url: http://b:5000, was http://a:5000",
		"upstream.credentials: account, was none",
		"upstream.username is set to u",
		"upstream.password is set to ***",
	}
	if diff := cmp.Diff(want, configs.Diff(from, to)); diff != "" {
		t.Errorf("diff (-want +got):\n%s", diff)
	}
	if got := configs.Diff(from, from); len(got) != 0 {
		t.Errorf("nothing changed, but: %v", got)
	}
	if got := configs.NeedRestart(from, to); !slices.Equal(got, []string{"listen"}) {
		t.Errorf("restart: %v", got)
	}
	if from.Version == to.Version || len(from.Version) != 8 {
		t.Errorf("versions %s and %s", from.Version, to.Version)
	}
}

// TestAliasesAreBounded: a file of a hundred lines must not take a gigabyte.
func TestAliasesAreBounded(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		p := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+p+",", 9) + "]\n"
	}
	for name, yaml := range map[string]string{
		"bomb":   small + bomb + "listen: *j\n",
		"rules":  small + "limits: &a [&b {name: x, exempt: *a}, *b]\n",
		"itself": small + "listen: &a [*a]\n",
		"good":   small + "groups: {a: &t [ann, bob], b: *t}\n",
	} {
		done := make(chan configs.Problems, 1)
		go func() { done <- problems(t, yaml, configs.Options{Static: true}) }()
		select {
		case ps := <-done:
			if bad := len(ps.Only(configs.Error)) > 0; bad != (name != "good") {
				t.Errorf("%s: %v", name, ps.Error())
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s takes for ever", name)
		}
	}
}

// BenchmarkParse reads what a company of 5,000 teams would write.
func BenchmarkParse(b *testing.B) {
	var yaml strings.Builder
	yaml.WriteString(small + "groups:\n")
	for i := range 5000 {
		fmt.Fprintf(&yaml, "  team%d: [ann%d, bob%d]\n", i, i, i)
	}
	yaml.WriteString("rules:\n")
	for i := range 5000 {
		fmt.Fprintf(&yaml, "  - {subjects: group:team%d, repositories: \"team%d/**\", allow: [pull, push]}\n", i, i)
	}
	data := []byte(yaml.String())
	for b.Loop() {
		if _, err := configs.Parse("regward.yaml", data, configs.Options{Static: true}); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("*/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, "default.yaml", "init.yaml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("listen: &a [*a]"))
	f.Add([]byte("- *\n\t{user}: ${"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := configs.Parse("regward.yaml", data, configs.Options{Static: true})
		if err == nil {
			if c.Version == "" || len(c.Upstreams) == 0 || len(c.Hostname) == 0 && len(c.Warnings.Only(configs.Note)) == 0 {
				t.Errorf("loaded, but incomplete: %+v", c)
			}
			configs.Diff(c, c)
			return
		}
		var ps configs.Problems
		if !errors.As(err, &ps) || len(ps.Only(configs.Error)) == 0 {
			t.Fatalf("no problems: %v", err)
		}
		for _, p := range ps {
			if p.Line < 1 && len(data) <= 4<<20 {
				t.Errorf("no line: %#v", p)
			}
		}
	})
}

// What is there no more is told as what is new is.
func TestDiffTellsOfAnIssuerThatIsGone(t *testing.T) {
	const rest = "hostname: registry.example.com\ntls: {mode: internal}\nupstream: http://a:5000\nrules: [{subjects: everyone, repositories: \"**\", allow: pull}]\n"
	with := static(t, rest+"auth: {htpasswd: h, oidc: [{name: ci, issuer: https://ci.example.com, audience: registry.example.com, user: \"ci/{sub}\"}]}\n")
	without := static(t, rest+"auth: {htpasswd: h}\n")
	if said := strings.Join(configs.Diff(with, without), "\n"); !strings.Contains(said, "auth.oidc[0].issuer is no longer set (was https://ci.example.com)") {
		t.Errorf("said: %s", said)
	}
	if said := strings.Join(configs.Diff(without, with), "\n"); !strings.Contains(said, "auth.oidc[0].issuer is set to https://ci.example.com") {
		t.Errorf("said: %s", said)
	}
}

// A password that YAML reads as something else is not shown by the error.
func TestYAMLTrapsShowNoSecret(t *testing.T) {
	const rest = "hostname: registry.example.com\ntls: {mode: internal}\nrules: [{subjects: everyone, repositories: \"**\", allow: pull}]\n"
	for _, value := range []string{"{hunter22}", "*hunter22", "@hunter22", "`hunter22", "#hunter22", "[hunter22]", "{a: hunter22}", "&hunter22", "%hunter22", "!hunter22 x", "\"hunter22", "[hunter22", "a: hunter22", "${hunter22!", "{user}hunter22"} {
		for _, text := range []string{
			rest + "upstream:\n  url: http://a:5000\n  username: u\n  password: " + value + "\n",
			rest + "upstream: {url: \"http://a:5000\", username: u, password: " + value + "}\n",
			rest + "upstream: http://a:5000\nauth:\n  webhook:\n    url: https://a.example.com\n    \"secret\": " + value + "\n",
			rest + "upstream: http://a:5000\nauth: {ldap: {url: \"ldaps://a\", user_base: dc=a, user_filter: \"(uid={user})\", bind_dn: cn=a, bind_password: " + value + "}}\n",
		} {
			c, err := configs.Parse("regward.yaml", []byte(text), configs.Options{})
			said := fmt.Sprint(err)
			if c != nil {
				said += c.Warnings.Error()
			}
			if strings.Contains(said, "hunter") {
				t.Errorf("%s\nsaid: %s", text, said)
			}
		}
	}
}
