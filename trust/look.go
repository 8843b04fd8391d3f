package trust

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Level is how much a finding matters.
type Level string

// The levels of findings, the harmless ones first.
const (
	OK      Level = "ok"
	Note    Level = "note"
	Warning Level = "warning"
	Problem Level = "problem"
)

// Finding is one thing that a look at this host's trust stores brought up.
type Finding struct {
	Client string // docker, containerd, podman or system
	Level  Level
	What   string // one sentence, without a full stop
	Why    string // what comes of it; empty for OK
	Fix    string // what to type or change; empty for OK
}

// What a look reads at most; a host has far less of everything.
const (
	maxFile    = 4 << 20 // bytes; a system's store has a quarter of it
	maxEntries = 256     // of a folder
	maxCAs     = 32      // files of a folder
)

// Look reads under root ("/" for the machine itself) where docker, containerd,
// podman and the system keep the CAs they trust, and reports what each of them
// would make of chain, the certificates that host (HOST[:PORT], as in an image's
// name) shows, leaf first. Clients that are not installed and have no folder are
// left out. Without a chain only what is wrong with the folders themselves is
// reported. It changes nothing and reads a bounded amount of everything.
func Look(root, host string, chain []*x509.Certificate) []Finding {
	h, err := ParseHost(host)
	if err != nil {
		return []Finding{{Client: "system", Level: Note, What: "the folders of CAs were not looked at: " + err.Error(), Why: "they are named after the host", Fix: "write the host as in the name of an image"}}
	}
	l := &look{root: root, host: h, chain: chain[:min(len(chain), maxChain)]}
	l.system()
	l.docker()
	l.containerd()
	l.podman()
	return l.found
}

// look is one look.
type look struct {
	root  string
	host  Host
	chain []*x509.Certificate

	store []*x509.Certificate // the system's
	known bool                // the store verifies the chain
	found []Finding
}

func (l *look) add(c Client, level Level, what, why, fix string) {
	l.found = append(l.found, Finding{string(c), level, what, why, fix})
}

// command is how to get what c needs.
func (l *look) command(c Client) string {
	command := fmt.Sprintf("regward trust %s --for %s", l.host, c)
	if len(l.chain) > 0 && len(selfSigned(l.chain)) == 0 {
		command += " --ca-file CA.pem (the host does not show its CA)"
	}
	return command
}

// verified reports whether one of cas is what the chain leads to. That an end
// has come, and the name, are no question of trust.
func (l *look) verified(cas []*x509.Certificate) bool {
	if len(l.chain) == 0 || len(cas) == 0 {
		return false
	}
	pool := x509.NewCertPool()
	for _, c := range cas {
		pool.AddCert(c)
	}
	leaf := l.chain[0]
	when := time.Now()
	if when.After(leaf.NotAfter) {
		when = leaf.NotAfter
	} else if when.Before(leaf.NotBefore) {
		when = leaf.NotBefore
	}
	_, err := leaf.Verify(options(l.chain, pool, when))
	return err == nil
}

// installed reports whether one of programs is under root.
func (l *look) installed(programs ...string) bool {
	for _, dir := range []string{"usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin", "bin", "sbin"} {
		for _, program := range programs {
			if _, err := os.Stat(filepath.Join(l.root, dir, program)); err == nil {
				return true
			}
		}
	}
	return false
}

func (l *look) isDir(name string) bool {
	info, err := os.Stat(filepath.Join(l.root, name))
	return err == nil && info.IsDir()
}

// errTooLong reports a file that is too long to be what it is named after.
var errTooLong = errors.New("longer than 4 MB")

// read is a regular file under root.
func (l *look) read(name string) ([]byte, error) {
	file := filepath.Join(l.root, name)
	info, err := os.Stat(file)
	if err != nil {
		return nil, cause(err)
	}
	if !info.Mode().IsRegular() { // a pipe would never end
		return nil, errors.New("no file")
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, cause(err)
	}
	if len(content) > maxFile {
		return nil, errTooLong
	}
	return content, nil
}

// cause is err without the path, which the sentence has already.
func cause(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// entries are the names in a folder under root, sorted.
func (l *look) entries(dir string) ([]string, error) {
	d, err := os.Open(filepath.Join(l.root, dir))
	if err != nil {
		return nil, cause(err)
	}
	defer d.Close()
	names, err := d.Readdirnames(maxEntries)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, cause(err)
	}
	slices.Sort(names)
	return names, nil
}

// folder is what one of a client's folders holds.
type folder struct {
	path  string
	names []string
	cas   []*x509.Certificate
}

// folder reads dir as docker, podman and containerd do: *.crt are CAs, X.cert
// and X.key belong together (X03). What is wrong with it becomes findings.
func (l *look) folder(c Client, dir string) *folder {
	f := &folder{path: dir}
	var err error
	if f.names, err = l.entries(dir); err != nil {
		l.add(c, Problem, fmt.Sprintf("the folder %s cannot be read: %v", dir, err), fmt.Sprintf("%s then refuses every pull from %s", c, l.host), "chmod 0755 "+dir)
		return f
	}
	for _, name := range f.names {
		base, ext := strings.TrimSuffix(name, path.Ext(name)), path.Ext(name)
		switch {
		case ext == ".crt":
			l.readCA(c, f, name)
		case ext == ".cert" && !slices.Contains(f.names, base+".key") && !l.keyInside(c, path.Join(dir, name)):
			l.add(c, Problem, fmt.Sprintf("%s/%s has no %s.key beside it", dir, name, base), fmt.Sprintf("%s takes .cert for a client certificate and refuses every request to %s without its key", c, l.host),
				fmt.Sprintf("if it is a CA, rename it to %s.crt; if not, bring its key", base))
		case ext == ".key" && !slices.Contains(f.names, base+".cert") && c != Containerd: // which reads keys for the sake of a .cert alone
			l.add(c, Problem, fmt.Sprintf("%s/%s has no %s.cert beside it", dir, name, base), fmt.Sprintf("%s refuses every request to %s while a key lacks its certificate", c, l.host),
				fmt.Sprintf("bring the client certificate as %s.cert, or remove the key", base))
		case slices.Contains([]string{".pem", ".cer", ".der", ".ca"}, ext):
			l.add(c, Warning, fmt.Sprintf("%s/%s is read by nobody", dir, name), "only files whose name ends in .crt are CAs", fmt.Sprintf("if it is a CA in PEM, rename it to %s.crt", base))
		}
	}
	return f
}

// keyInside reports whether c finds a client certificate's key in the same file,
// as containerd alone does.
func (l *look) keyInside(c Client, file string) bool {
	if c != Containerd {
		return false
	}
	content, err := l.read(file)
	return err == nil && bytes.Contains(content, []byte("PRIVATE KEY-----"))
}

func (l *look) readCA(c Client, f *folder, name string) {
	file := path.Join(f.path, name)
	if len(f.cas) >= maxCAs {
		return
	}
	refused := fmt.Sprintf("%s then refuses every pull from %s", c, l.host)
	content, err := l.read(file)
	if err != nil {
		l.add(c, Problem, fmt.Sprintf("%s cannot be read: %v", file, err), refused, "make it a file that the daemon may read, or remove it")
		return
	}
	cas, err := Certificates(content)
	if err != nil {
		why := "it is passed over without a word"
		if c == Containerd {
			why = refused
		}
		l.add(c, Problem, fmt.Sprintf("%s is no CA: %v", file, err), why, "remove it; "+l.command(c))
		return
	}
	f.cas = append(f.cas, cas...)
}

// judge says what c makes of the chain, with the CAs that it has besides the
// system's.
func (l *look) judge(c Client, where string, cas []*x509.Certificate) {
	switch {
	case len(l.chain) == 0:
	case l.verified(cas):
		l.add(c, OK, fmt.Sprintf("%s trusts %s by %s", c, l.host, where), "", "")
	case l.known || l.verified(append(slices.Clone(cas), l.store...)):
		if len(cas) > 0 {
			l.add(c, Note, fmt.Sprintf("%s holds a CA that is not the one of %s", where, l.host), "it does no harm: the system's store has the right one", "remove it")
		}
		l.add(c, OK, fmt.Sprintf("%s trusts %s by the system's store", c, l.host), "", "")
	case len(cas) > 0:
		l.add(c, Problem, fmt.Sprintf("%s holds %s, and that is not the CA of %s, which is %s", where, subjects(cas), l.host, l.issuer()),
			fmt.Sprintf("%s says x509: certificate signed by unknown authority", c), l.command(c))
	default:
		l.add(c, Problem, fmt.Sprintf("%s does not trust %s: nothing here has its CA, %s", c, l.host, l.issuer()),
			fmt.Sprintf("%s says x509: certificate signed by unknown authority", c), l.command(c))
	}
}

// issuer is the CA that the chain ends in, by name.
func (l *look) issuer() string {
	top := l.chain[len(l.chain)-1]
	return quoted(name(top.Issuer.String(), top.Issuer.CommonName))
}

// otherPorts are the folders beside, for the same host and another port: a
// common slip.
func (l *look) otherPorts(c Client, parent string) {
	names, err := l.entries(parent)
	if err != nil {
		return
	}
	for _, n := range names {
		h, err := ParseHost(n)
		if err != nil || h == l.host || !strings.EqualFold(h.Name, l.host.Name) {
			continue
		}
		l.add(c, Warning, fmt.Sprintf("%s is there, %s is not", path.Join(parent, n), path.Join(parent, l.host.String())),
			"the port is part of the folder's name exactly as it is part of the image's name", fmt.Sprintf("cp -r '%s' '%s'", path.Join(parent, n), path.Join(parent, l.host.String())))
		return
	}
}
