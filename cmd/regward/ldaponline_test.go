package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/configs"
	"github.com/regward/regward/internal/redistest"
	"github.com/regward/regward/internal/slapdtest"
)

// ldapOf is a configuration with a section auth.ldap, in flow style.
func ldapOf(t *testing.T, dir, yaml string) *configs.Config {
	t.Helper()
	text := "hostname: registry.example.com\ntls: {mode: internal}\nupstream: http://127.0.0.1:5000\ntoken: {key_file: key.pem}\nauth: {ldap: " + yaml + "}\n"
	write(t, filepath.Join(dir, "key.pem"), "a key")
	c, err := configs.Parse("regward.yaml", []byte(text), configs.Options{Dir: dir})
	if err != nil {
		t.Fatalf("%s: %v", yaml, err)
	}
	if file := c.Auth.LDAP.CAFile; file != "" && len(c.Auth.LDAP.CA) == 0 {
		if c.Auth.LDAP.CA, err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

const onlinePeople = `dn: ou=people,dc=example,dc=com
objectClass: organizationalUnit
ou: people

dn: uid=ann,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Ann
sn: x
uid: ann

dn: cn=Ann,dc=example,dc=com
objectClass: device
cn: Ann

dn: ou=teams,dc=example,dc=com
objectClass: organizationalUnit
ou: teams

dn: cn=dev,ou=teams,dc=example,dc=com
objectClass: groupOfNames
cn: dev
member: uid=ann,ou=people,dc=example,dc=com

`

// Each way to get a directory wrong is named, with what to write instead.
func TestOnlineAsksLDAP(t *testing.T) {
	dir := t.TempDir()
	good := slapdtest.Start(t, slapdtest.Options{LDIF: onlinePeople})
	named := slapdtest.Start(t, slapdtest.Options{LDIF: onlinePeople, Names: []string{"ldap.example.com"}})
	expired := slapdtest.Start(t, slapdtest.Options{LDIF: onlinePeople, Expired: true})
	http := redistest.Fake(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 100))
		_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	})
	for name, s := range map[string]*slapdtest.Server{"good.pem": good, "named.pem": named, "expired.pem": expired} {
		write(t, filepath.Join(dir, name), string(s.CA))
	}
	gone := fmt.Sprintf("ldaps://127.0.0.1:%d", redistest.FreePort(t))
	names := strings.NewReplacer("GOOD", good.LDAPS, "PLAIN", good.LDAP, "NAMED", named.LDAPS, "EXPIRED", expired.LDAPS, "GONE", gone, "HTTP", "ldaps://"+http,
		"ROOT", fmt.Sprintf("bind_dn: %q, bind_password: %q", slapdtest.RootDN, slapdtest.Password),
		"PEOPLE", `user_base: "ou=people,dc=example,dc=com", user_filter: "(uid={user})"`,
		"TEAMS", `group_base: "ou=teams,dc=example,dc=com", group_filter: "(member={dn})"`)
	for _, tt := range []struct {
		ldap            string // with names for what was started
		path, says, fix string
	}{
		{"{url: GOOD, ca_file: good.pem, ROOT, PEOPLE, TEAMS}", "", "", ""},
		{"{url: PLAIN, starttls: true, ca_file: good.pem, ROOT, PEOPLE, TEAMS, group_recursive: true}", "", "", ""},

		{"{url: GONE, ca_file: good.pem, ROOT, PEOPLE}", "auth.ldap.url", "connection refused", "is it running"},
		{"{url: [GONE, GOOD], ca_file: good.pem, ROOT, PEOPLE}", "auth.ldap.url", "connection refused", "is it running"},
		{"{url: GOOD, ca_file: named.pem, ROOT, PEOPLE}", "auth.ldap.ca_file", "unknown authority", "name the CA"},
		{"{url: NAMED, ca_file: named.pem, ROOT, PEOPLE}", "auth.ldap.url", "127.0.0.1", "a name that the certificate has: ldap.example.com"},
		{"{url: EXPIRED, ca_file: expired.pem, ROOT, PEOPLE}", "auth.ldap.url", "expired", "renew the directory's certificate"},
		{"{url: HTTP, ca_file: good.pem, ROOT, PEOPLE}", "auth.ldap.url", "TLS", "speaks no TLS"},
		{"{url: " + strings.Replace(good.LDAP, "ldap:", "ldaps:", 1) + ", ca_file: good.pem, ROOT, PEOPLE}", "auth.ldap.url", "cannot be trusted", "starttls: true"},
		{"{url: " + strings.Replace(good.LDAPS, "ldaps:", "ldap:", 1) + ", starttls: true, ca_file: good.pem, ROOT, PEOPLE}", "auth.ldap.url", "does not start TLS", "write ldaps://"},
		{`{url: GOOD, ca_file: good.pem, bind_dn: "cn=admin,dc=example,dc=com", bind_password: wrong-one, PEOPLE}`, "auth.ldap.bind_password", "(49)", "check auth.ldap.bind_dn"},
		{`{url: GOOD, ca_file: good.pem, bind_dn: admin, bind_password: wrong-one, PEOPLE}`, "auth.ldap.bind_dn", "(34)", "write a DN"},
		{`{url: GOOD, ca_file: good.pem, PEOPLE}`, "auth.ldap.user_base", "(50)", "of an account that may read it"},
		{`{url: GOOD, ca_file: good.pem, ROOT, user_base: "ou=staff,dc=example,dc=com", user_filter: "(uid={user})"}`, "auth.ldap.user_base", "(32)", "ou=staff,dc=example,dc=com does not exist"},
		{`{url: GOOD, ca_file: good.pem, ROOT, user_base: people, user_filter: "(uid={user})"}`, "auth.ldap.user_base", "(34)", "write a DN"},
		{`{url: GOOD, ca_file: good.pem, ROOT, user_base: "ou=people,dc=example,dc=com", user_filter: "(mail={user})"}`, "auth.ldap.user_filter", "finds nobody", "sAMAccountName"},
		{`{url: GOOD, ca_file: good.pem, ROOT, user_base: "ou=people,dc=example,dc=com", user_filter: "(|(uid=ann)(uid={user}))"}`, "auth.ldap.user_filter", "made-up name", "compares {user}"},
		{`{url: GOOD, ca_file: good.pem, ROOT, user_base: "dc=example,dc=com", user_filter: "(cn={user})", user_name: cn}`, "auth.ldap.user_filter", `more than one entry for "`, "narrow user_base"},
		{`{url: GOOD, ca_file: good.pem, ROOT, PEOPLE, user_name: mail}`, "auth.ldap.user_name", "no attribute mail", "sAMAccountName"},
		{`{url: GOOD, ca_file: good.pem, ROOT, PEOPLE, group_base: "ou=groups,dc=example,dc=com", group_filter: "(member={dn})"}`, "auth.ldap.group_base", "(32)", "write where the groups are"},
		{`{url: GOOD, ca_file: good.pem, ROOT, PEOPLE, group_base: "ou=teams,dc=example,dc=com", group_filter: "(uniqueMember={dn})"}`, "auth.ldap.group_filter", "finds no group", "(memberUid={user})"},
		{`{url: GOOD, ca_file: good.pem, ROOT, PEOPLE, TEAMS, group_name: description}`, "auth.ldap.group_name", "no attribute description", "cn"},
	} {
		cfg := ldapOf(t, dir, names.Replace(tt.ldap))
		var got configs.Problems
		checkLDAP(t.Context(), cfg, func(s configs.Severity, path, msg, fix string) {
			got = append(got, configs.Problem{Severity: s, File: "f", Path: path, Msg: msg, Fix: fix})
		})
		switch {
		case tt.path == "" && len(got) == 0:
		case tt.path == "" || len(got) != 1:
			t.Errorf("%s: %v", tt.ldap, got.Error())
		case got[0].Path != tt.path || !strings.Contains(got[0].Msg, tt.says) || !strings.Contains(got[0].Fix, tt.fix):
			t.Errorf("%s: got %v\nwant %s: …%s… fix: …%s…", tt.ldap, got[0], tt.path, tt.says, tt.fix)
		case (got[0].Severity == configs.Warning) != (strings.Contains(tt.ldap, "[GONE, ") || tt.path == "auth.ldap.group_filter"):
			t.Errorf("%s: %v", tt.ldap, got[0].Severity)
		}
		if text := got.Error(); strings.Contains(text, slapdtest.Password) || strings.Contains(text, "wrong-one") {
			t.Errorf("%s: a password is told: %s", tt.ldap, text)
		}
	}
}

// Groups that rules speak of are looked up, as rules spell them.
func TestOnlineAsksLDAPForTheGroupsOfRules(t *testing.T) {
	dir := t.TempDir()
	s := slapdtest.Start(t, slapdtest.Options{LDIF: onlinePeople})
	write(t, filepath.Join(dir, "ca.pem"), string(s.CA))
	write(t, filepath.Join(dir, "key.pem"), "a key")
	text := fmt.Sprintf(`hostname: registry.example.com
tls: {mode: internal}
upstream: http://127.0.0.1:5000
token: {key_file: key.pem}
auth:
  ldap: {url: %s, ca_file: ca.pem, bind_dn: %q, bind_password: %q, user_base: "ou=people,dc=example,dc=com", user_filter: "(uid={user})", group_base: "ou=teams,dc=example,dc=com", group_filter: "(member={dn})"}
groups: {fixed: [ann]}
rules:
  - {subjects: [group:dev, group:fixed, user:nobody], repositories: "**", allow: [pull, push]}
  - {subjects: [group:Dev, group:devs, "group:d*"], repositories: "vault/**", deny: "*"}
limits:
  - {name: devs, subjects: group:DEV, count: pulls, rate: 100/6h, per: user}
`, s.LDAPS, slapdtest.RootDN, slapdtest.Password)
	cfg, err := configs.Parse("regward.yaml", []byte(text), configs.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	checkLDAP(t.Context(), cfg, func(s configs.Severity, path, msg, fix string) {
		got = append(got, fmt.Sprintf("%v %s: %s; %s", s, path, msg, fix))
	})
	noGroup := `warning rules[1].subjects: the directory has no group %q below ou=teams,dc=example,dc=com with anybody in it; write it as the directory spells it, or add it to groups`
	want := []string{
		`warning rules[1].subjects: the directory spells the group "Dev" "dev", and rules tell the two apart; write group:dev`,
		fmt.Sprintf(noGroup, "devs"), fmt.Sprintf(noGroup, "d*"),
		`warning limits[0].subjects: the directory spells the group "DEV" "dev", and rules tell the two apart; write group:dev`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
