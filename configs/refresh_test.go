package configs_test

import (
	"strings"
	"testing"

	"github.com/regward/regward/configs"
)

func TestRefreshTokensThatNobodyGets(t *testing.T) {
	const base = "hostname: registry.example.com\ntls: {mode: internal}\nrules: [{subjects: authenticated, repositories: \"**\", allow: pull}]\n"
	const upstream, file = "upstream: http://registry:5000\n", "auth: {htpasswd: users}\n"
	const ldap = "auth: {ldap: {url: ldaps://ldap.example.com, user_base: \"ou=people,dc=example,dc=com\", user_filter: \"(uid={user})\"}}\n"
	const passes = "upstreams: [{url: \"http://registry:5000\", credentials: passthrough}]\n"
	for name, tt := range map[string]struct{ text, want string }{
		"off":                  {base + upstream, ""},
		"a file":               {base + upstream + file + "token: {refresh: true}\n", ""},
		"a directory":          {base + upstream + ldap + "token: {refresh: true}\n", ""},
		"nobody":               {base + upstream + "token: {refresh: true}\n", "nobody gets a refresh token: only users of auth.htpasswd and of auth.ldap"},
		"an upstream's people": {base + upstream + "auth: {upstream: true}\ntoken: {refresh: true}\n", "nobody gets a refresh token: only users"},
		"passthrough":          {base + passes + "token: {refresh: true}\n", "nobody gets a refresh token"},
		"a key of all":         {base + upstream + file + "token: {refresh: true, key_file: key.pem}\n", "without redis each instance has refresh tokens of its own"},
		"redis":                {base + upstream + file + "token: {refresh: true, key_file: key.pem}\nredis: {addresses: \"redis:6379\"}\n", ""},
	} {
		c, err := configs.Parse("regward.yaml", []byte(tt.text), configs.Options{Static: true})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := ""
		for _, p := range c.Warnings {
			if strings.Contains(p.String(), "refresh") {
				got += p.String()
			}
		}
		if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
