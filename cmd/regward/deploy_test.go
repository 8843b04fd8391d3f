package main

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
	"github.com/regward/regward/internal/redistest"
)

// promised are the metrics of docs/metrics.md, which another test compares with
// the program's, and their labels.
func promised(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(regward_\\w+)` \\| ([^|]*) \\|").FindAllStringSubmatch(readDoc(t, "docs/metrics.md"), -1) {
		all[m[1]] = strings.Fields(strings.NewReplacer("`", "", ",", "", "–", "").Replace(m[2]))
	}
	all["regward_build_info"] = []string{"version", "commit", "go"}
	return all
}

// Prometheus' conventions: counters end in _total, times are in seconds, sizes
// in bytes, shares are ratios.
func TestMetricsAreNamedAsPrometheusAsks(t *testing.T) {
	r := begin(t, standard, nil, nil)
	r.pull("coolteam/app")
	_, exposed := r.ask("GET", r.probe()+"/metrics", "", "")
	counts := regexp.MustCompile(`(?m)^# TYPE (\w+) (\w+)$`)
	for name := range promised(t) {
		if !regexp.MustCompile(`^regward_[a-z]+(_[a-z]+)*$`).MatchString(name) {
			t.Errorf("%s: letters and single underscores only", name)
		}
		for _, unit := range []string{"_ms", "_milliseconds", "_minutes", "_kb", "_mb", "_percent", "_count", "_sum", "_bucket"} {
			if strings.HasSuffix(name, unit) || strings.Contains(name, unit+"_") {
				t.Errorf("%s: has %s in it", name, unit)
			}
		}
		if strings.Contains(name, "timestamp") && !strings.HasSuffix(name, "_timestamp_seconds") {
			t.Errorf("%s: a time is in seconds since 1970", name)
		}
	}
	for _, m := range counts.FindAllStringSubmatch(exposed, -1) {
		if total := strings.HasSuffix(m[1], "_total"); strings.HasPrefix(m[1], "regward_") && total != (m[2] == "counter") {
			t.Errorf("%s is a %s", m[1], m[2])
		}
		if m[2] == "histogram" && strings.HasPrefix(m[1], "regward_") && !strings.HasSuffix(m[1], "_seconds") {
			t.Errorf("%s: a histogram names its unit", m[1])
		}
	}
}

// expressions are what the dashboard and the alerts ask Prometheus for.
func expressions(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	var dashboard struct {
		SchemaVersion int `json:"schemaVersion"`
		Panels        []struct {
			Title   string
			Type    string
			Targets []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Definition string }
		}
	}
	if err := json.Unmarshal([]byte(readDoc(t, "deploy/grafana-dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	if dashboard.SchemaVersion < 36 {
		t.Errorf("schemaVersion %d is none of today's Grafana", dashboard.SchemaVersion)
	}
	for _, p := range dashboard.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q asks for nothing", p.Title)
		}
		for _, target := range p.Targets {
			where := "panel " + p.Title
			all[where] = append(all[where], target.Expr)
			for _, m := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if !strings.Contains(target.Expr, m[1]) && m[1] != "instance" && !carries(t, target.Expr, m[1]) {
					t.Errorf("%s: its legend names %s, which %s does not have", where, m[1], target.Expr)
				}
			}
		}
	}
	for _, v := range dashboard.Templating.List {
		if v.Definition != "" { // the choice of a Prometheus has none
			all["variables"] = append(all["variables"], v.Definition)
		}
	}
	var alerts struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal([]byte(readDoc(t, "deploy/prometheus-alerts.yaml")), &alerts); err != nil {
		t.Fatal(err)
	}
	for _, g := range alerts.Groups {
		for _, r := range g.Rules {
			all["alert "+r.Alert] = append(all["alert "+r.Alert], r.Expr)
		}
	}
	return all
}

var (
	metricIn = regexp.MustCompile(`\b(regward_\w+)(?:\{([^}]*)\})?`)
	labelIn  = regexp.MustCompile(`(\w+)\s*(?:=~|!=|!~|=)`)
	byIn     = regexp.MustCompile(`by \(([^)]*)\)`)
)

// carries reports whether a metric of the expression has the label.
func carries(t *testing.T, expr, label string) bool {
	for _, m := range metricIn.FindAllStringSubmatch(expr, -1) {
		if slices.Contains(promised(t)[strings.TrimSuffix(m[1], "_bucket")], label) {
			return true
		}
	}
	return false
}

// Everything that is asked for is there: metrics, and their labels.
func TestTheDashboardAndTheAlertsAskForWhatIsThere(t *testing.T) {
	known, asked := promised(t), map[string]bool{}
	prometheusOwn := []string{"job", "instance", "le"}
	for where, exprs := range expressions(t) {
		for _, expr := range exprs {
			found := metricIn.FindAllStringSubmatch(expr, -1)
			if len(found) == 0 {
				t.Errorf("%s asks for nothing of regward's: %s", where, expr)
			}
			for _, m := range found {
				name := strings.TrimSuffix(m[1], "_bucket")
				labels, ok := known[name]
				if !ok {
					t.Errorf("%s asks for %s, which is not there", where, name)
					continue
				}
				asked[name] = true
				for _, l := range labelIn.FindAllStringSubmatch(m[2], -1) {
					if !slices.Contains(labels, l[1]) && !slices.Contains(prometheusOwn, l[1]) {
						t.Errorf("%s: %s has no label %s", where, name, l[1])
					}
				}
			}
			for _, m := range byIn.FindAllStringSubmatch(expr, -1) {
				for l := range strings.SplitSeq(m[1], ",") {
					if l = strings.TrimSpace(l); !slices.Contains(prometheusOwn, l) && !carries(t, expr, l) {
						t.Errorf("%s: nothing in %s has the label %s", where, expr, l)
					}
				}
			}
		}
	}
	// One that nobody looks at had better not be counted, or is named here.
	unseen := []string{
		"regward_auth_cache_entries", "regward_config_last_reload_timestamp_seconds", "regward_revocations",
		"regward_shared_blobs_digests", "regward_shared_blobs_lookups_cut_short_total", "regward_shared_blobs_lookups_total",
	}
	for name := range known {
		if !asked[name] && !slices.Contains(unseen, name) {
			t.Errorf("neither the dashboard nor the alerts show %s", name)
		}
	}
	if len(asked) < 20 {
		t.Errorf("only %d metrics were found: are the patterns still right?", len(asked))
	}
}

// Values of labels that are asked for are values that there are: docs/metrics.md
// and docs/logs.md name them.
func TestTheDashboardAndTheAlertsAskForValuesThatThereAre(t *testing.T) {
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`([a-z_-]+)`").FindAllStringSubmatch(readDoc(t, "docs/metrics.md")+readDoc(t, "docs/logs.md"), -1) {
		named[m[1]] = true
	}
	values := regexp.MustCompile(`(route|result|reason|mode|direction|log|kind)(?:=~|!=|!~|=)"([^"]*)"`)
	found := 0
	for where, exprs := range expressions(t) {
		for _, expr := range exprs {
			for _, m := range values.FindAllStringSubmatch(expr, -1) {
				for value := range strings.SplitSeq(m[2], "|") {
					if found++; !named[value] {
						t.Errorf("%s: no %s is called %q", where, m[1], value)
					}
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d values were found: is the pattern still right?", found)
	}
}

// Every alert fires on made-up series, and the pages explain each.
func TestEveryAlertIsTriedAndListed(t *testing.T) {
	var tests struct {
		Tests []struct {
			Cases []struct {
				Alertname string
				Expected  []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal([]byte(readDoc(t, "cmd/regward/testdata/prometheus-alerts-test.yaml")), &tests); err != nil {
		t.Fatal(err)
	}
	fires := map[string]bool{}
	for _, one := range tests.Tests {
		for _, c := range one.Cases {
			fires[c.Alertname] = fires[c.Alertname] || len(c.Expected) > 0
		}
	}
	page := readDoc(t, "docs/metrics.md")
	for _, m := range regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(readDoc(t, "deploy/prometheus-alerts.yaml"), -1) {
		if !fires[m[1]] {
			t.Errorf("%s is not tried", m[1])
		}
		if !strings.Contains(page, "`"+m[1]+"`") {
			t.Errorf("docs/metrics.md does not list %s", m[1])
		}
	}
}

func TestPromtoolTakesTheAlerts(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is not installed; run: scripts/install-test-tools")
	}
	dir := t.TempDir() // a file of tests names the rules beside it
	for _, file := range []string{root + "deploy/prometheus-alerts.yaml", "testdata/prometheus-alerts-test.yaml"} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"check", "rules", "prometheus-alerts.yaml"},
		{"test", "rules", "prometheus-alerts-test.yaml"},
	} {
		c := exec.Command(promtool, args...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// docs/several.md and deploy/haproxy.cfg as they stand, but for addresses: two
// instances behind haproxy count as one and see who asks, and one that drains is
// asked no more.
func TestSeveralInstancesBehindHaproxy(t *testing.T) {
	redis := redistest.Start(t, "--requirepass", "hidden")
	page := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(readDoc(t, "docs/several.md"))
	if page == nil {
		t.Fatal("docs/several.md shows no configuration")
	}
	if _, err := configs.Parse("regward.yaml", []byte(page[1]), configs.Options{Static: true}); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "token.pem")
	if _, err := auth.LoadTokens(key, true); err != nil {
		t.Fatal(err)
	}
	text := replaceEach(t, page[1],
		"registry.example.com", "localhost", `":8443"`, `"127.0.0.1:0"`, `":9781"`, `"127.0.0.1:0"`, "10.0.0.0/8", "127.0.0.0/8",
		"http://registry:5000", "UPSTREAM", "/etc/regward/htpasswd", "DIR/users", "/etc/regward/token.pem", key,
		"redis:6379", `"`+redis.Addr+`"`, "${REDIS_PASSWORD}", "hidden", "1000/6h", "3/h",
	) + `state_dir: DIR/state
admin: {listen: "unix:DIR/admin.sock"}
log: {format: json, access: DIR/access.log, audit: "off"}
`
	one, two := begin(t, text, nil, nil), begin(t, text, nil, nil)

	dir := t.TempDir()
	pair(t, dir, time.Now().Add(time.Hour))
	write(t, filepath.Join(dir, "both.pem"), readFile(t, filepath.Join(dir, "tls.crt"))+readFile(t, filepath.Join(dir, "tls.key")))
	host := "127.0.0.1:" + strconv.Itoa(redistest.FreePort(t))
	file := filepath.Join(dir, "haproxy.cfg")
	at := func(r *running, name string) string {
		_, probe, _ := strings.Cut(r.probe(), "127.0.0.1:")
		return name + " " + r.listeners.first.String() + " port " + probe
	}
	write(t, file, replaceEach(t, readDoc(t, "deploy/haproxy.cfg"),
		":443 ssl", host+" ssl", "/etc/haproxy/registry.pem", filepath.Join(dir, "both.pem"), " inter 2s", " inter 50ms", " port 9781", "",
		"regward1 10.0.0.11:8443", at(one, "regward1"), "regward2 10.0.0.12:8443", at(two, "regward2")))
	startHaproxy(t, file)

	get := func(path string, login bool) int { // 0 is no answer
		req, err := http.NewRequest("GET", "https://"+host+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "localhost"
		req.Header.Set("X-Forwarded-For", "192.0.2.9") // this machine counts as the balancer's network, too
		if login {
			req.SetBasicAuth("ann", "ann-secret")
		}
		res, err := one.client.RoundTrip(req)
		if err != nil {
			return 0
		}
		res.Body.Close()
		return res.StatusCode
	}
	soon(t, "haproxy finds both instances", func() bool {
		return get("/v2/", false) == http.StatusUnauthorized && one.served(t) > 0 && two.served(t) > 0
	})
	got := map[int]int{}
	for range 8 {
		got[get("/v2/library/app/manifests/v1", true)]++
	}
	if got[200] != 3 || got[429] != 5 {
		t.Errorf("8 pulls through both, with a limit of 3: %v", got)
	}
	one.says(t, "status", exitDone, "2 instances", "redis: ok")

	two.draining.Store(true) // its probe says so
	soon(t, "haproxy asks the draining one no more", func() bool {
		before := two.served(t)
		for range 4 {
			get("/v2/", false)
		}
		return two.served(t) == before
	})
	if status := get("/v2/", false); status != http.StatusUnauthorized {
		t.Errorf("while one drains: %d, want 401", status)
	}
}

// served is how many requests the instance answered to whom haproxy names.
func (r *running) served(t *testing.T) int {
	t.Helper()
	if err := r.logs.reopen(); err != nil { // writes what waits
		t.Fatal(err)
	}
	return strings.Count(readFile(t, filepath.Join(r.dir, "access.log")), `"addr":"192.0.2.9"`)
}

// replaceEach replaces every old by its new one, and fails where one is not there.
func replaceEach(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%q is not there any more:\n%s", pairs[i], text)
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func startHaproxy(t *testing.T, file string) {
	t.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		t.Fatal("haproxy is not installed; run: scripts/install-test-tools")
	}
	c := exec.Command(program, "-db", "-f", file)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
}
