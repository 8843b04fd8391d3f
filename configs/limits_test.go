package configs_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/configs"
	"github.com/regward/regward/ratelimit"
)

// shown are the effective values below a path.
func shown(c *configs.Config, under string) []string {
	var out []string
	for _, f := range c.Show() {
		if strings.HasPrefix(f.Path, under) {
			out = append(out, strings.TrimPrefix(f.Path, under)+"="+f.Value)
		}
	}
	return out
}

func TestAmounts(t *testing.T) {
	c := static(t, small+`limits:
  - {name: uplink, count: bytes, rate: 1200MB/m}
  - {name: quota, count: bytes, rate: 100GB/d, burst: 10GB}
  - {name: parallel, count: transfers, rate: "8"}
  - {name: people, count: pulls, rate: 1000/360m, burst: 50}
  - {name: later, rate: "${RATE}", count: bytes}
`)
	type amount struct {
		Rate  ratelimit.Rate
		Most  int
		Shown string
	}
	want := []amount{
		{ratelimit.Rate{Events: 1.2e9, Per: time.Minute, Burst: 20e6}, 0, "1200MB/m 20MB"},
		{ratelimit.Rate{Events: 100e9, Per: 24 * time.Hour, Burst: 10e9}, 0, "100GB/d 10GB"},
		{ratelimit.Rate{}, 8, "8 "},
		{ratelimit.Rate{Events: 1000, Per: 6 * time.Hour, Burst: 50}, 0, "1000/6h 50"},
	}
	for i, w := range want {
		l := c.Limits[i]
		got := amount{l.Rate, l.Most, ""}
		values := map[string]string{}
		for _, f := range c.Show() {
			values[f.Path] = f.Value
		}
		at := fmt.Sprintf("limits[%d]", i)
		got.Shown = values[at+".rate"] + " " + values[at+".burst"]
		if d := cmp.Diff(w, got); d != "" {
			t.Errorf("%s: -want +got\n%s", l.Name, d)
		}
	}
	if l := c.Limits[4]; l.Rate != (ratelimit.Rate{}) {
		t.Errorf("an unset variable is a rate: %+v", l)
	}
	// The same rate written in another way is the same configuration.
	a, b := static(t, small+"limits: [{name: x, count: bytes, rate: 1000kB/s}]\n"), static(t, small+"limits: [{name: x, count: bytes, rate: 1MB/s, burst: 1MB}]\n")
	if a.Version != b.Version || len(configs.Diff(a, b)) > 0 {
		t.Errorf("%s and %s: %v", a.Version, b.Version, configs.Diff(a, b))
	}
}

const redisYAML = `token: {key_file: key.pem}
redis: {addresses: "redis:6379", password: "${P:-hidden}", timeout: 80ms, on_error: deny}
`

func TestRedis(t *testing.T) {
	if c := static(t, small); c.Redis.Shared() || c.Redis.Timeout != configs.Duration(50*time.Millisecond) || c.Redis.OnError != configs.RedisLocal || c.Redis.KeyPrefix != "regward" || c.Metrics.PerNamespace {
		t.Errorf("without a word: %+v", c.Redis)
	}
	c := static(t, small+redisYAML+"metrics: {per_namespace: true}\n")
	want := []string{
		"addresses=redis:6379", "mode=single", "master_name=", "username=", "password=***", "sentinel_password=", "tls=false",
		"ca_file=", "key_prefix=regward", "timeout=80ms", "on_error=deny",
	}
	if d := cmp.Diff(want, shown(c, "redis.")); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if !c.Redis.Shared() || !c.Metrics.PerNamespace {
		t.Errorf("got %+v, %+v", c.Redis, c.Metrics)
	}
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		if text := fmt.Sprintf(verb, c.Redis); strings.Contains(text, "hidden") {
			t.Errorf("%s tells the password: %s", verb, text)
		}
	}
	for _, yaml := range []string{"redis: {}\n", "redis:\n", "redis: {addresses: [], mode: cluster}\n"} {
		if c := static(t, small+yaml); c.Redis.Shared() {
			t.Errorf("%s: %+v", yaml, c.Redis)
		}
	}
	for _, addr := range []string{"redis:6379", "10.0.0.7:6379", "[fd00::1]:6379", "team_redis:6379", "unix:/run/redis/redis.sock"} {
		if c := static(t, small+"token: {key_file: k}\nredis: {addresses: \""+addr+"\"}\n"); c.Redis.Addresses[0] != addr {
			t.Errorf("%s became %s", addr, c.Redis.Addresses[0])
		}
	}
}

// redis is made once, at the start: a reload that changes it says so.
func TestRedisWantsARestart(t *testing.T) {
	from := static(t, small+redisYAML)
	for _, tt := range []struct {
		yaml string
		want []string
		says string
	}{
		{redisYAML, nil, ""},
		{strings.Replace(redisYAML, "hidden", "other", 1), []string{"redis"}, "redis.password is another one"},
		{strings.Replace(redisYAML, "80ms", "100ms", 1), []string{"redis"}, "redis.timeout: 100ms, was 80ms"},
		{strings.Replace(redisYAML, "deny", "allow", 1), []string{"redis"}, "redis.on_error: allow, was deny"},
		{"token: {key_file: key.pem}\n", []string{"redis"}, "redis.addresses is no longer set (was redis:6379)"},
	} {
		to := static(t, small+tt.yaml)
		if got := configs.NeedRestart(from, to); !slices.Equal(got, tt.want) {
			t.Errorf("%s: restart for %v, want %v", tt.yaml, got, tt.want)
		}
		if got := configs.Diff(from, to); (len(got) > 0) != (tt.says != "") || tt.says != "" && !slices.Contains(got, tt.says) {
			t.Errorf("%s: got %q, want %q", tt.yaml, got, tt.says)
		}
	}
	idle := static(t, small+"redis: {addresses: [], timeout: 1s}\n")
	if got := configs.NeedRestart(static(t, small), idle); len(got) > 0 {
		t.Errorf("no Redis before and after: restart for %v", got)
	}
}

func TestDiffOfDryRuns(t *testing.T) {
	rules := func(lines ...string) *configs.Config {
		text := small + "rules:\n  - {subjects: everyone, repositories: \"base/**\", allow: pull}\n"
		for _, l := range lines {
			text += "  - {" + l + "}\n"
		}
		return static(t, text)
	}
	const (
		deny  = `subjects: group:dev, repositories: "vault/**", deny: push`
		allow = `subjects: user:bob, repositories: "team/**", allow: [pull, push]`
		dry   = ", dry_run: true"
	)
	for _, tt := range []struct {
		why      string
		from, to *configs.Config
		want     []string
	}{
		{"tried", rules(), rules(deny + dry), []string{"group:dev would be denied push on vault/** (dry run)"}},
		{"enforced", rules(deny + dry), rules(deny), []string{"group:dev is now denied push on vault/**"}},
		{"given up", rules(deny + dry), rules(), []string{"group:dev would no longer be denied push on vault/** (the dry run is over)"}},
		{"back to a trial", rules(deny), rules(deny + dry), []string{"group:dev is no longer denied push on vault/**", "group:dev would be denied push on vault/** (dry run)"}},
		{"tried beside the same in force", rules(deny), rules(deny, deny+dry), nil},
		{"to be gone", rules(allow), rules(allow + dry), []string{"user:bob would lose pull, push on team/** (dry run)"}},
		{"gone", rules(allow + dry), rules(), []string{"user:bob loses pull, push on team/**"}},
		{"kept after all", rules(allow + dry), rules(allow), []string{"user:bob would no longer lose pull, push on team/** (the dry run is over)"}},
		{"given at once", rules(), rules(allow + dry), []string{"user:bob gains pull, push on team/**", "user:bob would lose pull, push on team/** (dry run)"}},
	} {
		if d := cmp.Diff(tt.want, configs.Diff(tt.from, tt.to)); d != "" {
			t.Errorf("%s: -want +got\n%s", tt.why, d)
		}
		if same := tt.from.Version == tt.to.Version; same {
			t.Errorf("%s: the version is the same", tt.why)
		}
	}
	limits := func(l string) *configs.Config { return static(t, small+"limits: [{name: x, "+l+"}]\n") }
	want := []string{"limit x: 40MB/s burst 80MB bytes per ip, was 8 transfers at once per client"}
	if d := cmp.Diff(want, configs.Diff(limits("count: transfers, rate: 8"), limits("count: bytes, rate: 40MB/s, burst: 80MB, per: ip"))); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}
