package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What the directories of these tests have: regward's own account, which reads
// all but passwords, and people and groups beside it.
const (
	ldapBase    = "dc=example,dc=com"
	ldapPeople  = "ou=people," + ldapBase
	ldapGroups  = "ou=groups," + ldapBase
	ldapAccount = "cn=regward,ou=services," + ldapBase
	ldapSecret  = "the directory's own secret"
)

// company is ann, whose name the directory spells Ann, and who is in core, which
// is in dev; bob in dev; and dave, in nothing. on call is a group that no
// repository can be named after.
func company() string {
	text := folder(ldapPeople) + folder(ldapGroups)
	for uid, password := range map[string]string{"Ann": passwords["ann"], "bob": passwords["bob"], "dave": passwords["dave"], "o(brien*": passwords["bob"]} {
		text += fmt.Sprintf("dn: %s\nobjectClass: inetOrgPerson\ncn: %s\nsn: x\nuid: %s\nmail: %s@example.com\nuserPassword: %s\n\n",
			dnOf(uid), uid, uid, strings.Trim(strings.ToLower(uid), "(*"), password)
	}
	return text + team("core", dnOf("Ann")) + team("dev", "cn=core,"+ldapGroups, dnOf("bob"), dnOf("o(brien*")) + team("on call", dnOf("Ann"))
}

func folder(dn string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(dn, "ou="), ",")
	return fmt.Sprintf("dn: %s\nobjectClass: organizationalUnit\nou: %s\n\n", dn, name)
}

func dnOf(uid string) string { return "uid=" + uid + "," + ldapPeople }

func team(name string, members ...string) string {
	text := fmt.Sprintf("dn: cn=%s,%s\nobjectClass: groupOfNames\ncn: %s\n", name, ldapGroups, name)
	for _, m := range members {
		text += "member: " + m + "\n"
	}
	return text + "\n"
}

// slapd is OpenLDAP's server, of one test. Its certificate is the test run's,
// unless pair is another one.
type slapd struct {
	ldap, ldaps string // URLs: StartTLS, and TLS from the start
	dir         string
	pair        [2]string // files of a certificate and a key
	logs        []string  // one of each run
	proc        *process
}

func startSlapd(t testing.TB) *slapd {
	return newSlapd(t, "127.0.0.1", freePort(t), freePort(t), company()).launch(t)
}

// newSlapd is one that does not run yet.
func newSlapd(t testing.TB, address string, port, tlsPort int, entries string) *slapd {
	t.Helper()
	s := &slapd{
		ldap: fmt.Sprintf("ldap://%s:%d", address, port), ldaps: fmt.Sprintf("ldaps://%s:%d", address, tlsPort),
		dir: t.TempDir(), pair: [2]string{suite.certs.certFile, suite.certs.keyFile},
	}
	if err := os.Mkdir(filepath.Join(s.dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.configure(t)
	s.offline(t, "slapadd", "dn: "+ldapBase+"\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n\n"+
		folder("ou=services,"+ldapBase)+"dn: "+ldapAccount+"\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: regward\nuserPassword: "+ldapSecret+"\n\n"+entries)
	return s
}

func (s *slapd) configure(t testing.TB) {
	t.Helper()
	replaceFile(t, filepath.Join(s.dir, "slapd.conf"), strings.NewReplacer("DIR", s.dir, "CERT", s.pair[0], "KEY", s.pair[1], "BASE", ldapBase, "ACCOUNT", ldapAccount).Replace(`
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCertificateFile CERT
TLSCertificateKeyFile KEY
threads 4
database mdb
maxsize 67108864
suffix "BASE"
directory DIR/db
dbnosync
index objectClass,uid,member eq
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="ACCOUNT" read by anonymous auth by * none
`))
}

// offline changes the data by a program of slapd's, which is down meanwhile.
func (s *slapd) offline(t testing.TB, program, ldif string) {
	t.Helper()
	cmd := exec.Command(slapdProgram(t, program), "-f", filepath.Join(s.dir, "slapd.conf"))
	cmd.Stdin = strings.NewReader(ldif)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// launch starts it, or starts it again after kill.
func (s *slapd) launch(t testing.TB) *slapd {
	t.Helper()
	s.begin(t)
	s.ready(t)
	return s
}

func (s *slapd) begin(t testing.TB) {
	t.Helper()
	s.logs = append(s.logs, filepath.Join(s.dir, fmt.Sprintf("log%d", len(s.logs))))
	s.proc = start(t, s.logs[len(s.logs)-1], nil, slapdProgram(t, "slapd"), "-d", "stats",
		"-f", filepath.Join(s.dir, "slapd.conf"), "-h", s.ldap+"/ "+s.ldaps+"/")
}

func (s *slapd) ready(t testing.TB) {
	t.Helper()
	eventually(t, "slapd is ready", 30*time.Second, func() error {
		if err := s.proc.gone(); err != nil {
			return err
		}
		if !strings.Contains(s.proc.output(), "slapd starting") {
			return fmt.Errorf("it has said: %s", tail(s.proc.output(), 5))
		}
		return nil
	})
}

// kill ends it as kill -9 does.
func (s *slapd) kill() { s.proc.kill() }

// pause stops the process, which keeps its connections and answers nothing.
func (s *slapd) pause(t testing.TB) {
	t.Helper()
	s.proc.signal(t, syscall.SIGSTOP)
	t.Cleanup(func() { _ = s.proc.cmd.Process.Signal(syscall.SIGCONT) })
}

func (s *slapd) resume(t testing.TB) { s.proc.signal(t, syscall.SIGCONT) }

// modify changes entries, as ldapmodify's LDIF says.
func (s *slapd) modify(t testing.TB, ldif string) {
	t.Helper()
	s.kill()
	s.offline(t, "slapmodify", ldif)
	s.launch(t)
}

// asked counts what the server was asked: lines of its logs with text in them.
func (s *slapd) asked(t testing.TB, text string) (n int) {
	t.Helper()
	for _, log := range s.logs {
		n += strings.Count(readFile(t, log), text)
	}
	return n
}

// binds is how often somebody's password was tried.
func (s *slapd) binds(t testing.TB, dn string) int {
	t.Helper()
	return s.asked(t, `BIND dn="`+dn+`" method=`)
}

// auth is the section of regward's file that asks servers, in this order; more
// are lines of auth.ldap, each with six spaces in front.
func (s *slapd) auth(more ...string) string {
	return ldapAuth(s.ldaps, more...)
}

func ldapAuth(urls string, more ...string) string {
	return fmt.Sprintf("auth:\n  ldap:\n      url: [%s]\n      ca_file: %q\n      bind_dn: %q\n      bind_password: %q\n      user_base: %q\n      user_filter: \"(uid={user})\"\n"+
		"      group_base: %q\n      group_filter: \"(member={dn})\"\n%s",
		urls, suite.certs.caFile, ldapAccount, ldapSecret, ldapPeople, ldapGroups, strings.Join(append(more, ""), "\n"))
}

// slapdProgram is one of slapd's, which lie beside the path of people.
func slapdProgram(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath("/usr/sbin/" + name); err == nil {
		return path
	}
	return mustProgram(t, name)
}
