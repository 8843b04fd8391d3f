package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Each way to get a directory wrong: what validate --online says to it, and that
// serve, told to go on with it, lets nobody in.
func TestLDAPMisconfigured(t *testing.T) {
	t.Parallel()
	s := startSlapd(t)
	foreign, _ := showing(t, madeChain{})
	late, lateCA := showing(t, madeChain{ends: -time.Hour})
	named, namedCA := showing(t, madeChain{name: "ldap.example.com"})
	hung := startSlapd(t)
	hung.pause(t)
	web := startUpstream(t, distribution)
	const forgets = "cache: {ttl: 1ms, stale: 0s}\n" // so that each login is asked about
	g := startAsking(t, s.auth(), directoryRules+forgets)
	half := filepath.Join(g.dir, "half.pem")
	replaceFile(t, half, readFile(t, suite.certs.caFile)[:200])

	good := g.frame
	with := func(pairs ...string) (frame string) {
		t.Helper()
		frame = good
		for i := 0; i < len(pairs); i += 2 {
			if !strings.Contains(frame, pairs[i]) {
				t.Fatalf("no %s in the file", pairs[i])
			}
			frame = strings.Replace(frame, pairs[i], pairs[i+1], 1)
		}
		return frame
	}
	const byUID = `"(uid={user})"`
	for _, tt := range []struct {
		what   string
		frame  string
		loaded bool // it can be: an instance starts while its directory is in trouble
		says   []string
	}{
		{"in the clear", with(s.ldaps, s.ldap), false, []string{"auth.ldap.url", "in the clear", "ldaps://"}},
		{"a filter that is none", with(byUID, `"(uid={user}"`), false, []string{"auth.ldap.user_filter", "fix:"}},
		{"a filter without a name", with(byUID, `"(uid=ann)"`), false, []string{"auth.ldap.user_filter", "{user}"}},
		{"no CA", with(suite.certs.caFile, "/nowhere/ca.pem"), false, []string{"auth.ldap.ca_file", "/nowhere/ca.pem"}},
		{"half a CA", with(suite.certs.caFile, half), false, []string{"auth.ldap.ca_file", "no certificate in PEM", "fix:"}},

		{"another's certificate", with(s.ldaps, foreign.ldaps), true, []string{"auth.ldap.ca_file", "unknown authority", "name the CA"}},
		{"an expired certificate", with(s.ldaps, late.ldaps, suite.certs.caFile, lateCA), true, []string{"auth.ldap.url", "expired", "set this machine's clock"}},
		{"another name", with(s.ldaps, named.ldaps, suite.certs.caFile, namedCA), true, []string{"auth.ldap.url", "a name that the certificate has: ldap.example.com"}},
		{"no directory", with(s.ldaps, strings.Replace(web.url, "http:", "ldaps:", 1)), true, []string{"auth.ldap.url", "speaks no TLS"}},
		{"nobody there", with(s.ldaps, fmt.Sprintf("ldaps://127.0.0.1:%d", freePort(t))), true, []string{"auth.ldap.url", "connection refused", "is it running"}},
		{"a server that hangs", with(s.ldaps+"]", hung.ldaps+"]\n      timeout: 1s"), true, []string{"auth.ldap.url", "does not answer: no answer in 1s", "is it overloaded, or stopped?"}},
		{"no such host", with(s.ldaps, "ldaps://ldap.invalid"), true, []string{"auth.ldap.url", "ldap.invalid", "check the name"}},
		{"the port of StartTLS", with(s.ldaps, strings.Replace(s.ldap, "ldap:", "ldaps:", 1)), true, []string{"auth.ldap.url", "starttls: true"}},
		{"StartTLS at the port of TLS", with(s.ldaps+"]", strings.Replace(s.ldaps, "ldaps:", "ldap:", 1)+"]\n      starttls: true\n      timeout: 2s"), true, []string{"auth.ldap.url", "write ldaps://"}},
		{"a wrong password", with(ldapSecret, "not the secret"), true, []string{"auth.ldap.bind_password", "(49)", "check auth.ldap.bind_dn"}},
		{"nobody's DN", with(ldapAccount, "cn=nobody,"+ldapBase), true, []string{"auth.ldap.bind_password", "(49)", "check auth.ldap.bind_dn"}},
		{"a wrong base", with(ldapPeople, "ou=staff,"+ldapBase), true, []string{"auth.ldap.user_base", "(32)", "ou=staff," + ldapBase + " does not exist"}},
		{"a wrong base of groups", with(ldapGroups, "ou=teams,"+ldapBase), true, []string{"auth.ldap.group_base", "(32)", "ou=teams," + ldapBase + " does not exist"}},
		{"a filter for everybody", with(byUID, `"(|(uid={user})(objectClass=person))"`), true, []string{"auth.ldap.user_filter", "made-up name", "compares {user}"}},
		{"a filter that finds two", with(byUID, `"(sn={user})"`, "user_base", "user_name: sn\n      user_base"), true, []string{"auth.ldap.user_filter", `more than one entry for "x"`, "no two people share"}},
		{"another attribute", with(byUID, `"(sAMAccountName={user})"`), true, []string{"auth.ldap.user_filter", "finds nobody", "uid in OpenLDAP"}},
		{"no such name", with(byUID, byUID+"\n      user_name: description"), true, []string{"auth.ldap.user_name", "no attribute description"}},
	} {
		g.frame = tt.frame
		g.configure(t, directoryRules+forgets)
		command(t, nil, suite.regward, "validate", "--online", g.file).fails(t, append(tt.says, "fix: ")...)
		reload := command(t, nil, suite.regward, "--config", g.file, "reload")
		want := http.StatusServiceUnavailable
		if tt.loaded {
			reload.works(t)
		} else { // what was before goes on
			reload.fails(t, tt.says[0])
			want = http.StatusOK
		}
		if tt.what == "another attribute" || tt.what == "a filter that finds two" { // nobody is called dave there
			want = http.StatusUnauthorized
		}
		a := g.logsIn(t, "dave", passwords["dave"])
		if a.StatusCode != want {
			t.Errorf("%s: a login is answered %s: %s", tt.what, a.Status, a.body)
		}
	}
	g.proc.signal(t, syscall.SIGTERM)
	<-g.proc.done
	replaceFile(t, g.file, strings.Replace(readFile(t, g.file), byUID, `"(uid={user}"`, 1))
	command(t, nil, suite.regward, "--config", g.file, "serve").fails(t, "auth.ldap.user_filter")
}

// showing is a directory with a certificate of its own, and the CA of that.
func showing(t testing.TB, m madeChain) (s *slapd, ca string) {
	t.Helper()
	s = newSlapd(t, "localhost", freePort(t), freePort(t), company())
	ca, s.pair = m.write(t)
	s.configure(t)
	return s.launch(t), ca
}
