package configs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

// What is said of logins that one provider takes from another, of robots that
// are not there, and of those that nobody knows where they go.
func TestLoginsThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	robot := func(name, where string) string {
		_, hash := auth.NewRobotSecret()
		return "  - {name: " + name + ", repositories: \"" + where + "\", allow: pull, hashes: [{sha256: " + hash.String() + "}]}\n"
	}
	put("users", "Oidc:$2a$10$Y0Zv7rEVzehBfwsvDO7YseuC3Gcs7M8GFDG8iGR1u1eik2wRhZdZa\n")
	put("robots.yaml", "robots:\n"+robot("deploy", "old/**")+robot("scan", "old/x"))
	put("none.yaml", "robots: []\n")
	const (
		file   = "auth: {htpasswd: users, tokens_file: robots.yaml"
		issuer = ", oidc: [{name: gh, issuer: \"https://gh.example.com\", audience: a.example, user: \"gh/{sub}\"}]"
		all    = "rules: [{subjects: authenticated, repositories: \"**\", allow: [pull, push]}]\n"
		plain  = "upstream: http://registry:5000\n"
	)
	for name, tt := range map[string]struct{ text, want string }{
		"oidc in htpasswd":       {plain + file + issuer + "}\n" + all, "auth.htpasswd: user oidc can never log in: with auth.oidc that name is for issuers' tokens"},
		"without an issuer":      {plain + file + "}\n" + all, ""},
		"a robot that is there":  {plain + file + "}\n" + all + "limits: [{name: l, count: pulls, rate: 5/1m, subjects: token:deploy}]\n", ""},
		"one that is not":        {plain + file + "}\nrules: [{subjects: token:deplay, repositories: \"**\", allow: [pull, push]}, {subjects: token:deploy, repositories: \"**\", allow: [pull, push]}]\n", "there is no robot \"deplay\"\n\tfix: did you mean token:deploy?"},
		"none at all":            {plain + "auth: {tokens_file: none.yaml}\nrules: [{subjects: token:ci, repositories: \"**\", allow: [pull, push]}]\n", "there is no robot \"ci\"\n\tfix: make it: regward token create ci --repository"},
		"in a limit":             {plain + file + "}\n" + all + "limits: [{name: l, count: pulls, rate: 5/1m, exempt: token:x}]\n", "limits[0].exempt: there is no robot \"x\""},
		"passthrough alone":      {"upstream: {url: \"http://registry:5000\", credentials: passthrough}\nauth: {tokens_file: robots.yaml}\n" + all, "robot-deploy and 1 more can use nothing of what was given: it is at upstreams with credentials: passthrough"},
		"passthrough where they": {"upstreams: [{url: \"http://registry:5000\", prefix: old/, credentials: passthrough}, {url: \"http://other:5000\"}]\nauth: {tokens_file: robots.yaml}\n" + all, "robot-deploy and 1 more can use nothing"},
		"passthrough elsewhere":  {"upstreams: [{url: \"http://registry:5000\", prefix: new/, credentials: passthrough}, {url: \"http://other:5000\"}]\nauth: {tokens_file: robots.yaml}\n" + all, ""},
	} {
		c, err := configs.Parse("regward.yaml", []byte("hostname: a.example\ntls: {mode: internal}\nstate_dir: .\n"+tt.text), configs.Options{Dir: dir})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		said := c.Warnings.Error()
		if tt.want == "" {
			for _, no := range []string{"there is no robot", "can use nothing", "can never log in"} {
				if strings.Contains(said, no) {
					t.Errorf("%s: %s", name, said)
				}
			}
		} else if !strings.Contains(said, tt.want) {
			t.Errorf("%s: %s\nwant %s", name, said, tt.want)
		}
	}
}

// Directories take a filter that compares DNs with names, and find nothing by it.
func TestWarnOfGroupFiltersThatFindNothing(t *testing.T) {
	for filter, want := range map[string]string{
		"(member={user})":                          "write (member={dn})",
		"(&(cn=x-*)(uniquemember={user}))":         "write (uniquemember={dn})",
		"(memberUid={dn})":                         "write (memberUid={user})",
		"(member={dn})":                            "",
		"(member:1.2.840.113556.1.4.1941:={dn})":   "",
		"(|(member={dn})(memberUid={user}))":       "",
		"(&(objectClass=group)(memberUid={user}))": "",
	} {
		c := static(t, small+"auth: {ldap: {url: \"ldaps://d.example.com\", user_base: \"ou=p\", user_filter: \"(uid={user})\", group_base: \"ou=g\", group_filter: \""+filter+"\"}}\n")
		got := ""
		for _, p := range c.Warnings {
			if p.Path == "auth.ldap.group_filter" {
				got = p.Fix
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", filter, got, want)
		}
	}
}
