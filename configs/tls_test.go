package configs_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/regward/regward/configs"
)

const plain = "hostname: registry.example.com\nupstream: http://registry:5000\nrules: [{subjects: everyone, repositories: \"**\", allow: \"*\"}]\n"

func TestACMEIsTheDefaultAndListensOnPort80(t *testing.T) {
	for text, want := range map[string][]string{
		plain:                               {":80"},
		plain + "tls: {http_listen: off}\n": nil,
		plain + "tls: {http_listen: \":8080\"}\n":    {":8080"},
		plain + "tls: {mode: internal}\n":            nil,
		plain + "tls: {cert_file: a, key_file: b}\n": nil,
	} {
		c := static(t, text)
		if !slices.Equal(c.TLS.HTTPListen, want) {
			t.Errorf("%s: http_listen is %v, want %v", text, c.TLS.HTTPListen, want)
		}
	}
	if c := static(t, plain); c.TLS.Mode != configs.TLSACME {
		t.Errorf("the mode is %q", c.TLS.Mode)
	}
}

func TestDNSServerHasAPort(t *testing.T) {
	for server, want := range map[string]string{
		"10.0.0.53": "10.0.0.53:53", "ns.example.com:5353": "ns.example.com:5353", "ns.example.com": "ns.example.com:53",
		`"2001:db8::53"`: "[2001:db8::53]:53",
	} {
		c := static(t, plain+"tls: {acme_dns: {server: "+server+", zone: Example.com., key_name: k, key_secret: \"${S:-aGlkZGVu}\"}}\n")
		if got := c.TLS.ACMEDNS; got.Server != want || got.Zone != "example.com" || got.Algorithm != "hmac-sha256" {
			t.Errorf("%s: %v", server, got)
		}
	}
}

func TestSecretsOfTLSAreHiddenAndCompared(t *testing.T) {
	const eab = "tls: {acme_directory: \"https://ca.example.com/d\", acme_eab: {key_id: k, mac_key: \"${S:-aGlkZGVu}\"}}\n"
	one := static(t, plain+eab)
	for _, f := range one.Show() {
		if strings.Contains(f.Value, "aGlkZGVu") {
			t.Errorf("%s shows the key", f.Path)
		}
	}
	other := static(t, plain+strings.Replace(eab, "aGlkZGVu", "b3RoZXI", 1))
	if got := configs.Diff(one, other); !slices.Equal(got, []string{"tls.acme_eab.mac_key is another one"}) {
		t.Errorf("got %q", got)
	}
}

func TestOriginsAreAsBrowsersSendThem(t *testing.T) {
	for origin, want := range map[string]string{
		"https://UI.example.com": "https://ui.example.com", "https://ui.example.com:443": "https://ui.example.com",
		"http://localhost:3000": "http://localhost:3000", "https://[::1]:443": "https://[::1]",
	} {
		c := static(t, plain+"cors: {origins: \""+origin+"\"}\n")
		if !slices.Equal(c.CORS.Origins, []string{want}) {
			t.Errorf("%s: got %v", origin, c.CORS.Origins)
		}
	}
}

func TestAPairThatIsNotWholeIsToldAsThat(t *testing.T) {
	const yaml = "hostname: a.example\nupstream: http://r\ntls: {cert_file: tls.crt, key_file: tls.key}\nrules: [{subjects: everyone, repositories: \"**\", allow: \"*\"}]\n"
	dir := folder(t)
	cert, key := pair(t)
	_, other := pair(t)
	for _, tt := range []struct{ name, cert, key, want string }{
		{"half a certificate", cert[:len(cert)/2], key, "tls.crt ends in the middle of a certificate: is it still being written?"},
		{"half a chain", cert + cert[:len(cert)/2], key, "tls.crt ends in the middle of a certificate"},
		{"half a key", cert, key[:len(key)/2], "tls.key ends in the middle of a private key"},
		{"text", "no PEM", key, `tls.crt holds no certificate in PEM form ("-----BEGIN CERTIFICATE-----")`},
		{"swapped", key, cert, "tls.key holds a certificate and no private key: are the two files swapped?"},
		{"a key with a passphrase", cert, strings.ReplaceAll(key, "PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "tls.key is locked with a passphrase: write it without one, readable by regward alone"},
		{"an old key with a passphrase", cert, "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n", "tls.key is locked with a passphrase"},
		{"another key", cert, other, "do not belong together"},
	} {
		for file, data := range map[string]string{"tls.crt": tt.cert, "tls.key": tt.key} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := load(t, dir, yaml, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
}
