package tls

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// maxFile is more than any chain or key; what is larger is the wrong file.
const maxFile = 1 << 20

// files is what a pair was read from.
type files struct {
	sum     [32]byte  // of both contents
	changed time.Time // the later change of the two
}

// pair names two files.
type pair struct{ cert, key string }

// String is both, the folder told once: "/etc/regward/tls.crt and tls.key".
func (p pair) String() string {
	if p.cert == p.key {
		return "key and certificate in " + p.cert
	}
	if filepath.Dir(p.cert) == filepath.Dir(p.key) {
		return p.cert + " and " + filepath.Base(p.key)
	}
	return p.cert + " and " + p.key
}

// Files serves one pair, verified on load: the chain parses, the key belongs to
// its first certificate. An expired pair is served all the same, and Problems
// says so. A broken reload keeps the pair in use.
func Files(cert, key string) (*Source, error) {
	p := pair{cert, key}
	return start(mode{load: p.load, problems: p.problems}, nil)
}

// load reads the pair; in is the one in use. Two files are not read in one
// instant: a pair that does not fit may be half of the old and half of the
// new, so what has changed meanwhile is read again.
func (p pair) load(in *served, _ []string) (*served, error) {
	var last [32]byte
	for tries := 0; ; tries++ {
		chain, key, f, err := p.read()
		if err != nil {
			return nil, err
		}
		if in != nil && in.files.sum == f.sum {
			return in, nil
		}
		cert, err := p.parse(chain, key)
		if err == nil {
			return &served{cert: cert, files: f}, nil
		}
		if f.sum == last || tries == 3 {
			return nil, err
		}
		last = f.sum
	}
}

func (p pair) read() (chain, key []byte, f files, err error) {
	chain, certChanged, err := readFile(p.cert)
	if err != nil {
		return nil, nil, f, err
	}
	key, keyChanged, err := readFile(p.key)
	if err != nil {
		return nil, nil, f, err
	}
	chainSum, keySum := sha256.Sum256(chain), sha256.Sum256(key)
	f.sum = sha256.Sum256(append(chainSum[:], keySum[:]...))
	f.changed = certChanged
	if keyChanged.After(certChanged) {
		f.changed = keyChanged
	}
	return chain, key, f, nil
}

func readFile(path string) ([]byte, time.Time, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%s cannot be read: %w", path, cause(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%s cannot be read: %w", path, cause(err))
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%s cannot be read: %w", path, cause(err))
	}
	if len(content) > maxFile {
		return nil, time.Time{}, fmt.Errorf("%s is larger than 1 MiB: that is no certificate and no key", path)
	}
	return content, info.ModTime(), nil
}

// parse makes a certificate of chain and key, or says in words what is wrong
// with them. No error repeats what is in the key.
func (p pair) parse(chain, key []byte) (*tls.Certificate, error) {
	ders, err := certificates(p.cert, chain)
	if err != nil {
		return nil, err
	}
	if err := looksLikeKey(p.key, key); err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err == nil {
		return &cert, nil
	}
	// Everything in the chain parses, so it is the key, or the two together.
	if _, err := tls.X509KeyPair(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ders[0].Raw}), key); err != nil &&
		!strings.Contains(err.Error(), "does not match") {
		return nil, fmt.Errorf("%s holds no private key that can be used: %w", p.key, cause(err))
	}
	for i, c := range ders[1:] {
		if _, err := tls.X509KeyPair(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), key); err == nil {
			return nil, fmt.Errorf("%s begins with the certificate of %s, and the one for the key is number %d in it: put that first",
				p.cert, called(ders[0]), i+2)
		}
	}
	return nil, fmt.Errorf("%s do not belong together", p)
}

// certificates parses the chain in a file.
func certificates(path string, content []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	rest := content
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate number %d in it is damaged: %w", path, len(all)+1, err)
		}
		all = append(all, c)
	}
	switch {
	case len(bytes.TrimSpace(content)) == 0:
		return nil, fmt.Errorf("%s is empty", path)
	case bytes.Contains(rest, []byte("-----BEGIN")):
		return nil, fmt.Errorf("%s ends in the middle of a certificate: is it still being written?", path)
	case len(all) == 0 && bytes.Contains(content, []byte("PRIVATE KEY-----")):
		return nil, fmt.Errorf("%s holds a private key and no certificate: are the two files swapped?", path)
	case len(all) == 0:
		return nil, fmt.Errorf(`%s holds no certificate in PEM form ("-----BEGIN CERTIFICATE-----")`, path)
	}
	return all, nil
}

// looksLikeKey tells the usual mistakes from each other.
func looksLikeKey(path string, content []byte) error {
	rest := content
	var other string
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY", strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			return fmt.Errorf("%s is locked with a passphrase: write it without one, readable by regward alone", path)
		case block.Type == "PRIVATE KEY", strings.HasSuffix(block.Type, " PRIVATE KEY"):
			return nil
		}
		other = block.Type
	}
	switch {
	case len(bytes.TrimSpace(content)) == 0:
		return fmt.Errorf("%s is empty", path)
	case bytes.Contains(rest, []byte("-----BEGIN")):
		return fmt.Errorf("%s ends in the middle of a key: is it still being written?", path)
	case other == "CERTIFICATE":
		return fmt.Errorf("%s holds a certificate and no private key: are the two files swapped?", path)
	}
	return fmt.Errorf(`%s holds no private key in PEM form ("-----BEGIN PRIVATE KEY-----")`, path)
}

// called is what a person would call c.
func called(c *x509.Certificate) string {
	if n := names(c); len(n) > 0 {
		return list(n)
	}
	if c.Subject.CommonName != "" {
		return c.Subject.CommonName
	}
	return "nobody"
}

func (p pair) problems(in *served, hosts []string, now time.Time) []string {
	leaf := in.cert.Leaf
	var all []string
	covered, missing := split(leaf, hosts)
	if len(missing) > 0 {
		what := "it is for " + list(names(leaf))
		if len(names(leaf)) == 0 {
			what = "it is for no host at all (clients do not look at the common name)"
		}
		all = append(all, fmt.Sprintf("the certificate in %s does not cover %s; %s", p.cert, list(missing), what))
	}
	if len(covered) == 0 {
		covered = []string{called(leaf)}
	}
	of := fmt.Sprintf("certificate for %s (%s)", list(covered), p.cert)
	switch {
	case now.Before(leaf.NotBefore):
		all = append(all, fmt.Sprintf("%s is not valid before %s: is the clock right?", of, leaf.NotBefore.UTC().Format(minute)))
	case Stage(leaf.NotAfter, now) == 0:
		all = append(all, fmt.Sprintf("%s expired on %s, and its file has not changed since %s: clients refuse it",
			of, leaf.NotAfter.UTC().Format(minute), in.files.changed.UTC().Format(time.DateOnly)))
	case Stage(leaf.NotAfter, now) > 0:
		all = append(all, fmt.Sprintf("%s expires %s, and its file has not changed since %s",
			of, inDays(leaf.NotAfter, now), in.files.changed.UTC().Format(time.DateOnly)))
	}
	if err := inOrder(in.cert.Certificate); err != nil {
		all = append(all, fmt.Sprintf("%s: %v: many clients refuse such a chain", p.cert, err))
	}
	return all
}

// inOrder reports whether each certificate was issued by the one after it.
func inOrder(ders [][]byte) error {
	chain := make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return errors.New("it does not parse")
		}
		chain[i] = c
	}
	for i := 1; i < len(chain); i++ {
		if !bytes.Equal(chain[i-1].RawIssuer, chain[i].RawSubject) || chain[i-1].CheckSignatureFrom(chain[i]) != nil {
			return fmt.Errorf("certificate number %d did not issue number %d", i+1, i)
		}
	}
	return nil
}
