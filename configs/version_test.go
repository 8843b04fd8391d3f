package configs_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

// A file that is called as before may hold other users: a reload says so.
func TestDiffTellsOfFiles(t *testing.T) {
	dir := t.TempDir()
	load := func(users string) *configs.Config {
		if err := os.WriteFile(filepath.Join(dir, "users"), []byte(users), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := configs.Parse("regward.yaml", []byte("hostname: a.example\ntls: {mode: internal}\nupstream: http://registry:5000\nauth: {htpasswd: users}\n"), configs.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const hash = ":$2y$05$D8hsR9zSLJcdhqgmUgGBVe9pRVBwwvVYnuYuLZeScPcyDYEhlqYma\n"
	ann, bob := load("ann"+hash), load("bob"+hash)
	if got := configs.Diff(ann, bob); !slices.Equal(got, []string{"auth.htpasswd: users holds something else"}) {
		t.Errorf("got %q", got)
	}
	if got := configs.Diff(ann, load("ann"+hash)); len(got) > 0 {
		t.Errorf("nothing changed, but: %q", got)
	}
}

// Instances of one registry have addresses, folders and logs of their own, and
// the same files under other names. None of that is another configuration.
func TestVersionIsOfWhatIsDecided(t *testing.T) {
	dir := t.TempDir()
	const hash = "ann:$2y$05$D8hsR9zSLJcdhqgmUgGBVe9pRVBwwvVYnuYuLZeScPcyDYEhlqYma\n"
	for name, text := range map[string]string{"one": hash, "two": hash, "other": "bob" + hash[3:]} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a.pem", "b.pem"} {
		if _, err := auth.LoadTokens(filepath.Join(dir, name), true); err != nil {
			t.Fatal(err)
		}
	}
	version := func(more string) string {
		c, err := configs.Parse("regward.yaml", []byte("hostname: a.example\ntls: {mode: internal}\nupstream: http://registry:5000\n"+more), configs.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return c.Version
	}
	for _, tt := range []struct {
		one, other string
		same       bool
	}{
		{"listen: 10.0.0.1:443", "listen: 10.0.0.2:443", true},
		{"health: {listen: 10.0.0.1:9781}\nadmin: {listen: 127.0.0.1:9780}", "health: {listen: 10.0.0.2:9781}\nadmin: {listen: off}", true},
		{"state_dir: /var/lib/one", "state_dir: /var/lib/two", true},
		{"log: {access: /var/log/one, audit: stdout}", "log: {access: /var/log/two, audit: /var/log/audit}", true},
		{"auth: {htpasswd: one}", "auth: {htpasswd: two}", true},
		{"auth: {htpasswd: one}", "auth: {htpasswd: other}", false},
		{"redis: {addresses: 'one:6379'}\ntoken: {key_file: a.pem}", "redis: {addresses: 'two:6379'}\ntoken: {key_file: a.pem}", true},
		{"redis: {addresses: 'one:6379'}\ntoken: {key_file: a.pem}", "redis: {addresses: 'one:6379'}\ntoken: {key_file: b.pem}", false},
		{"log: {access: /var/log/one}", "log: {access: off}", false},
		{"contact: ann", "contact: bob", false},
		{"limits: [{name: a, count: pulls, rate: 1/s}]", "limits: [{name: a, count: pulls, rate: 2/s}]", false},
	} {
		if a, b := version(tt.one), version(tt.other); (a == b) != tt.same {
			t.Errorf("%q and %q: versions %s and %s", tt.one, tt.other, a, b)
		}
	}
}
