// Package slapdtest runs real directories, OpenLDAP's slapd, for tests: on
// loopback alone, with certificates of a CA of the test's own, ended with the
// test.
package slapdtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What every directory has: its root, and who may read all of it.
const (
	Base     = "dc=example,dc=com"
	RootDN   = "cn=admin," + Base
	Password = "the directory's own"
)

// Options shape a directory.
type Options struct {
	LDIF    string // entries below Base, which is there already
	Modules string // lines of slapd.conf before the database: "moduleload ppolicy"
	Config  string // lines of the database: "overlay ppolicy"
	Names   []string
	Expired bool // its certificate is, since an hour
}

// Server is a slapd of a test's own.
type Server struct {
	LDAP  string // ldap://127.0.0.1:PORT, for StartTLS
	LDAPS string // ldaps://127.0.0.1:PORT
	CA    []byte // PEM

	t   testing.TB
	dir string
	cmd *exec.Cmd
}

// Start starts one. Its certificate is for 127.0.0.1 and localhost, unless o has
// other names.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{t: t, dir: t.TempDir()}
	if len(o.Names) == 0 {
		o.Names = []string{"127.0.0.1", "localhost"}
	}
	s.CA = writeCertificates(t, s.dir, o.Names, o.Expired)
	ports := freePorts(t, 2)
	s.LDAP, s.LDAPS = fmt.Sprintf("ldap://127.0.0.1:%d", ports[0]), fmt.Sprintf("ldaps://127.0.0.1:%d", ports[1])
	s.write("slapd.conf", config(s.dir, o))
	s.write("data.ldif", "dn: "+Base+"\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n\n"+o.LDIF)
	if err := os.Mkdir(filepath.Join(s.dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program(t, "slapadd"), "-q", "-f", s.path("slapd.conf"), "-l", s.path("data.ldif")).CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v\n%s", err, out)
	}
	s.Start()
	t.Cleanup(s.Kill)
	return s
}

func config(dir string, o Options) string {
	return strings.NewReplacer("DIR", dir, "BASE", Base, "ROOT", RootDN, "PASSWORD", Password, "MODULES", o.Modules, "CONFIG", o.Config).Replace(`
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
MODULES
pidfile DIR/pid
TLSCertificateFile DIR/server.pem
TLSCertificateKeyFile DIR/server.key
threads 4
database mdb
maxsize 67108864
suffix "BASE"
rootdn "ROOT"
rootpw "PASSWORD"
directory DIR/db
dbnosync
index objectClass,uid,member,memberUid eq
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="ROOT" read by users read by anonymous auth
CONFIG
`)
}

// Start starts it again after Kill, at the same place and with what it had.
func (s *Server) Start() {
	s.t.Helper()
	log, err := os.OpenFile(s.path("log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.Command(program(s.t, "slapd"), "-d", "stats", "-f", s.path("slapd.conf"), "-h", s.LDAP+"/ "+s.LDAPS+"/")
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.LDAPS, "ldaps://"))
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("slapd does not listen: %v\n%s", err, s.log())
		}
	}
}

// Kill ends it as kill -9 does. It may be called again.
func (s *Server) Kill() {
	if s.cmd != nil && s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

// Pause stops the process, which keeps its connections and answers nothing.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume has it go on.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// Modify changes entries as LDIF of ldapmodify says, with the server down
// meanwhile.
func (s *Server) Modify(ldif string) {
	s.t.Helper()
	s.Kill()
	s.write("change.ldif", ldif)
	if out, err := exec.Command(program(s.t, "slapmodify"), "-f", s.path("slapd.conf"), "-l", s.path("change.ldif")).CombinedOutput(); err != nil {
		s.t.Fatalf("slapmodify: %v\n%s", err, out)
	}
	s.Start()
}

// Asked counts the lines of its log that have text: `BIND dn="uid=ann`, `SRCH base=`.
func (s *Server) Asked(text string) int { return strings.Count(s.log(), text) }

func (s *Server) log() string {
	b, err := os.ReadFile(s.path("log"))
	if err != nil {
		s.t.Error(err)
	}
	return string(b)
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Server) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// program is one of slapd's, which lie beside the path of people.
func program(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	path, err := exec.LookPath("/usr/sbin/" + name)
	if err != nil {
		t.Fatalf("%s is missing; install it with scripts/install-test-tools", name)
	}
	return path
}

// freePorts are below those that the system gives out by itself: nobody's
// connection takes one before the server has it, or while it is dead.
func freePorts(t testing.TB, n int) (ports []int) {
	t.Helper()
	start := 22_000 + int(time.Now().UnixNano()/1000%10_000)
	for port := start; port < start+1000 && len(ports) < n; port++ {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		_ = l.Close()
		ports = append(ports, port)
	}
	if len(ports) < n {
		t.Fatal("no free ports")
	}
	return ports
}
