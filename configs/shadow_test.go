package configs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/regward/regward/configs"
)

// warned is what is said of limits, without places and fixes.
func warned(t *testing.T, limits string) (out []string) {
	t.Helper()
	c := static(t, small+"rules: [{subjects: everyone, repositories: '**', allow: [pull, push]}]\ngroups: {ci: [a]}\nlimits:\n"+limits)
	for _, p := range c.Warnings.Only(configs.Warning) {
		if strings.HasPrefix(p.Path, "limits") {
			out = append(out, p.Path+": "+p.Msg)
		}
	}
	return out
}

func TestLimitsInTheShadowOfOthers(t *testing.T) {
	const tight = "  - {name: tight, count: pulls, rate: 10/h, per: ip}\n"
	const never = "limits[1]: never bites: limits[0] (tight) is used up first"
	for _, tt := range []struct{ limits, want string }{
		{tight + "  - {name: wide, count: pulls, rate: 100/h, per: ip}\n", never},
		{tight + "  - {name: wide, count: pulls, rate: 100/h, per: ip, subjects: anonymous, repositories: a/**}\n", never},
		{tight + "  - {name: same, count: pulls, rate: 10/h, per: ip}\n", never},
		{"  - {name: wide, count: pulls, rate: 100/h, per: ip}\n" + tight, "limits[0]: never bites: limits[1] (tight) is used up first"},
		{"  - {name: slow, count: bytes, rate: 1MB/s, per: ip}\n  - {name: fast, count: bytes, rate: 2MB/s, per: ip}\n", "limits[1]: never bites: limits[0] (slow) slows down before it"},
		{"  - {name: few, count: transfers, rate: 4, per: ip}\n  - {name: many, count: transfers, rate: 8, per: ip}\n", "limits[1]: never bites: limits[0] (few) is full first"},
		// A smaller burst, another bucket, other callers or networks, whom the tight
		// one spares, and a dry run of what may come.
		{tight + "  - {name: wide, count: pulls, rate: 100/h, burst: 9, per: ip}\n", ""},
		{tight + "  - {name: wide, count: pulls, rate: 100/h, per: user}\n", ""},
		{tight + "  - {name: wide, count: pushes, rate: 100/h, per: ip}\n", ""},
		{"  - {name: tight, count: pulls, rate: 10/h, per: ip, subjects: anonymous}\n  - {name: wide, count: pulls, rate: 100/h, per: ip}\n", ""},
		{"  - {name: tight, count: pulls, rate: 10/h, per: ip, from: 10.0.0.0/8}\n  - {name: wide, count: pulls, rate: 100/h, per: ip}\n", ""},
		{"  - {name: tight, count: pulls, rate: 10/h, per: ip, exempt: group:ci}\n  - {name: wide, count: pulls, rate: 100/h, per: ip}\n", ""},
		{"  - {name: tight, count: pulls, rate: 10/h, per: ip, dry_run: true}\n  - {name: wide, count: pulls, rate: 100/h, per: ip}\n", ""},
	} {
		var got string
		for _, line := range warned(t, tt.limits) {
			if strings.Contains(line, "never bites") {
				got += line
			}
		}
		if got != tt.want {
			t.Errorf("%s\tgot  %q\n\twant %q", tt.limits, got, tt.want)
		}
	}
}

// Many limits of the same callers are a warning for each, not one for each pair.
func TestOneWarningForEachLimit(t *testing.T) {
	var limits strings.Builder
	for i := range 16 { // none in the shadow of another
		fmt.Fprintf(&limits, "  - {name: l%d, count: pulls, rate: %d/m, burst: %d, per: ip}\n", i, 100+i, 100-i)
	}
	got := warned(t, limits.String())
	if len(got) != 15 {
		t.Errorf("%d warnings of 16 limits:\n%s", len(got), strings.Join(got, "\n"))
	}
	const want = "limits[15]: everyone is counted by limits[0] (l0), limits[1] (l1), limits[2] (l2), 12 more too: every limit that matches is asked"
	if last := got[len(got)-1]; last != want && got[6] != want {
		t.Errorf("got %q, want %q among\n%s", last, want, strings.Join(got, "\n"))
	}
}

// A limit of failed logins of one's own takes both built in ones away, which
// validate says in the words of reload.
func TestOwnFailedLoginsReplaceBoth(t *testing.T) {
	const own = "  - {name: guesses, count: failed_logins, rate: 20/1h, per: ip}\n"
	got := strings.Join(warned(t, own), "\n")
	lines := strings.Join(configs.Diff(static(t, small), static(t, small+"limits:\n"+own)), "; ")
	_, gone, _ := strings.Cut(lines, "; ")
	if want := "limits[0]: " + gone; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := warned(t, own+"  - {name: names, count: failed_logins, rate: 10/1h, per: user}\n"); len(got) > 0 {
		t.Errorf("whoever writes both is warned: %q", got)
	}
}

// Where a file alone says who there is, somebody who is not in it is told of.
func TestUsersThatNobodyKnows(t *testing.T) {
	dir := t.TempDir()
	const hash = ":$2y$05$D8hsR9zSLJcdhqgmUgGBVe9pRVBwwvVYnuYuLZeScPcyDYEhlqYma\n"
	if err := os.WriteFile(filepath.Join(dir, "users"), []byte("zorro"+hash+"ann"+hash), 0o600); err != nil {
		t.Fatal(err)
	}
	const file = `hostname: a.example
tls: {mode: internal}
upstream: {url: http://registry:5000, username: u, password: p}
auth: {htpasswd: users%s}
rules:
  - {subjects: [user:Ann, user:zoro], repositories: "**", allow: [pull, push]}
limits:
  - {name: people, count: pulls, rate: 10/h, per: user, subjects: [user:ann, user:bob], exempt: user:carl}
`
	found := func(more string) (out []string) {
		c, err := configs.Parse("regward.yaml", fmt.Appendf(nil, file, more), configs.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range c.Warnings {
			if strings.Contains(p.Msg, "nobody can log in as") {
				out = append(out, p.Path+" "+p.Fix)
			}
		}
		return out
	}
	add := "add the user to " + filepath.Join(dir, "users") + ": regward hash-password --user "
	want := "rules[0].subjects[1] did you mean user:zorro?, limits[0].subjects[1] " + add + "bob, limits[0].exempt " + add + "carl"
	if got := strings.Join(found(""), ", "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, more := range []string{
		", upstream: true",
		", oidc: [{name: ci, issuer: https://ci.example.com, audience: a.example, user: \"gha/{repository}\"}]",
		", webhook: {url: https://logins.example.com, secret: a-secret-of-the-webhook}",
	} {
		if got := found(more); len(got) > 0 {
			t.Errorf("somebody else knows more users%s: %q", more, got)
		}
	}
}
