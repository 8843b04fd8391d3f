package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Each way to get a program wrong is named by `validate --online` with the fix,
// without the secret, and lets nobody in.
func TestWebhookMisconfigured(t *testing.T) {
	t.Parallel()
	another := newIDCards(t, "others")
	for _, tt := range []struct {
		name      string
		change    func(p *loginProgram)
		more      string
		exit      int
		key, says string
		fix       string
		login     int
	}{
		{"good", func(*loginProgram) {}, "", 0, "", "", "", 200},
		{"wrong path", func(p *loginProgram) { p.url += "s" }, "", 1, "url", "404 is the answer, even to what is signed with another secret", "check the path", 401},
		{"wrong CA", func(p *loginProgram) { p.caFile = another.caFile }, "", 1, "ca_file", "unknown authority", "name the CA", 503},
		{"gone", func(p *loginProgram) { p.url = fmt.Sprintf("https://localhost:%d/", freePort(t)) }, "", 1, "url", "connection refused", "is it running", 503},
		{"another secret", func(p *loginProgram) { p.secret = "another" }, "", 1, "secret", "answers 400", "the same secret", 503},
		{"not JSON", func(p *loginProgram) { p.misbehaves(prints(200, "<html>")) }, "", 1, "url", "is no JSON", "200 with", 503},
		{"takes anybody", func(p *loginProgram) { p.misbehaves(prints(200, "{}")) }, "", 1, "url", "takes a made-up login", "answer 401", 200},
		{"redirects", func(p *loginProgram) {
			p.misbehaves(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) })
		}, "", 1, "url", "answers 302", "a redirect is not followed", 503},
		{"slow", func(p *loginProgram) { p.misbehaves(stalls) }, "timeout: 200ms", 1, "url", "does not answer within 200ms", "is it running", 503},
		{"broken", func(p *loginProgram) { p.misbehaves(prints(500, "")) }, "", 1, "url", "answers 500", "own log", 503},
		{"plain HTTP", func(p *loginProgram) { p.url = strings.Replace(p.url, "https", "http", 1) }, "", 1, "url", "answers 400", "write https://", 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := startLoginProgram(t)
			tt.change(p)
			var more []string
			if tt.more != "" {
				more = []string{tt.more}
			}
			g := newRegward(t, "{url: http://127.0.0.1:1, username: u, password: p}") // nobody is there, and nothing is asked of it
			g.setLogins(t, p.auth(more...))
			g.configure(t, hookRules)
			checked := g.cli(t, "validate", "--online")
			told := checked.told("auth.webhook." + tt.key)
			if tt.key == "" && strings.Contains(checked.out, "auth.webhook.url") || tt.key != "" && (!strings.Contains(told, tt.says) || !strings.Contains(told, tt.fix)) {
				t.Errorf("%q, want …%s… fix: …%s…\n%s", told, tt.says, tt.fix, checked.out)
			}
			if tt.key != "" {
				checked.exits(t, tt.exit)
			}
			if strings.Contains(checked.out, hookSecret) {
				t.Error("the secret is told")
			}
			g.serve(t)
			g.logsIn(t, "ann", passwords["ann"]).is(t, tt.login)
			g.posts(t, "ann", passwords["ann"], "").is(t, tt.login)
		})
	}
}
