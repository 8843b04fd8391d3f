package tls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 90 * 24 * time.Hour
	// early is how much a certificate begins before it is made: clocks differ.
	early = time.Hour
)

// authority is the internal CA.
type authority struct {
	pair
	now  func() time.Time
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Internal serves certificates of a CA of its own, kept in dir
// (internal-ca.pem, internal-ca.key; made on first use), for hosts: names and IP
// addresses, a port is cut off. The certificates live 90 days and are renewed in
// memory when a third of that is left.
//
// Every client trusts this CA by hand, so it is never replaced silently: a key
// that is gone, unreadable or of another CA is an error. Several processes may
// start on one dir at once; all end up with the same CA.
func Internal(dir string, hosts ...string) (*Source, error) {
	return internal(dir, hosts, time.Now)
}

func internal(dir string, hosts []string, now func() time.Time) (*Source, error) {
	a := &authority{pair: pair{filepath.Join(dir, "internal-ca.pem"), filepath.Join(dir, "internal-ca.key")}, now: now}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("no place for the internal CA: %w", err)
	}
	if err := a.open(dir); err != nil {
		return nil, err
	}
	s, err := start(mode{load: a.load, problems: a.problems, ca: certPEM(a.cert.Raw)}, hosts)
	if err != nil {
		return nil, err
	}
	s.now = now
	return s, nil
}

// open reads the CA, after making what is missing of it. The key comes first
// and whoever links it first wins; the certificate follows from the key. So a
// crash between the two, and another process at any point, do no harm.
func (a *authority) open(dir string) error {
	if err := a.makeKey(dir); err != nil {
		return err
	}
	content, _, err := readFile(a.pair.key)
	if err != nil {
		return err
	}
	if err := looksLikeKey(a.pair.key, content); err != nil {
		return err
	}
	block, _ := pem.Decode(content)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("%s holds no private key that can be used: %w", a.pair.key, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return fmt.Errorf("%s holds a %T, not the ECDSA key of the internal CA", a.pair.key, parsed)
	}
	a.key = key
	if err := a.makeCert(dir); err != nil {
		return err
	}
	content, _, err = readFile(a.pair.cert)
	if err != nil {
		return err
	}
	chain, err := certificates(a.pair.cert, content)
	if err != nil {
		return err
	}
	a.cert = chain[0]
	public, ok := a.cert.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !ok || !key.PublicKey.Equal(public):
		return fmt.Errorf("%s do not belong together; bring back the file that belongs to the CA your clients trust", a.pair)
	case !a.cert.IsCA:
		return fmt.Errorf("%s is the certificate of no CA", a.pair.cert)
	}
	return nil
}

func (a *authority) makeKey(dir string) error {
	if exists(a.pair.key) {
		return nil
	}
	// The key is there before its certificate. A certificate alone, even at a
	// second look at the key, is a CA that lost its key.
	if exists(a.pair.cert) && !exists(a.pair.key) {
		return fmt.Errorf("%s is there, but its key %s is not; bring the key back, or remove both for a new CA that every client must then trust",
			a.pair.cert, filepath.Base(a.pair.key))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return create(dir, a.pair.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

func (a *authority) makeCert(dir string) error {
	if exists(a.pair.cert) {
		return nil
	}
	spki, err := x509.MarshalPKIXPublicKey(&a.key.PublicKey)
	if err != nil {
		return err
	}
	id := sha256.Sum256(spki)
	now := a.now()
	template := &x509.Certificate{
		// A trust store may hold several of these: the name tells them apart.
		Subject:               pkix.Name{CommonName: fmt.Sprintf("regward internal CA %x", id[:4])},
		NotBefore:             now.Add(-early),
		NotAfter:              now.Add(caLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		return err
	}
	return create(dir, a.pair.cert, certPEM(der), 0o644)
}

// load makes a certificate for hosts, or for those of in if there are none.
func (a *authority) load(in *served, hosts []string) (*served, error) {
	now := a.now()
	if in != nil && len(hosts) == 0 {
		hosts = in.hosts
	}
	hosts = plain(hosts)
	if len(hosts) == 0 {
		return nil, errors.New("no hostname to make a certificate for")
	}
	if in != nil && slices.Equal(in.hosts, hosts) && now.Before(in.renewAt) {
		return in, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		NotBefore:   now.Add(-early),
		NotAfter:    now.Add(leafLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	// Past its end a CA signs nothing that anybody trusts; it signs all the same,
	// so that regward starts and Problems can say why.
	if a.cert.NotAfter.Before(template.NotAfter) && a.cert.NotAfter.After(now) {
		template.NotAfter = a.cert.NotAfter
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	if len(hosts[0]) <= 64 { // the longest common name there is; only for people to read
		template.Subject.CommonName = hosts[0]
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("no certificate for %s: %w", list(hosts), err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("no certificate for %s: %w", list(hosts), err)
	}
	// Not at every handshake when the end of the CA leaves no third.
	renew := leaf.NotAfter.Add(-leafLife / 3)
	if soon := now.Add(time.Hour); renew.Before(soon) {
		renew = soon
	}
	// The CA goes along, so that a client's owner can see what there is to trust.
	return &served{
		cert:    &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: leaf},
		hosts:   hosts,
		renewAt: renew,
	}, nil
}

func (a *authority) problems(in *served, hosts []string, now time.Time) []string {
	var all []string
	if _, missing := split(in.cert.Leaf, hosts); len(missing) > 0 {
		all = append(all, fmt.Sprintf("the certificate of the internal CA does not cover %s; it is for %s", list(missing), list(in.hosts)))
	}
	const then = "remove it and its key for a new one, which every client must then trust"
	switch Stage(a.cert.NotAfter, now) {
	case -1:
	case 0:
		all = append(all, fmt.Sprintf("the internal CA (%s) expired on %s: clients refuse it; %s", a.pair.cert, a.cert.NotAfter.UTC().Format(minute), then))
	default:
		all = append(all, fmt.Sprintf("the internal CA (%s) expires %s; %s", a.pair.cert, inDays(a.cert.NotAfter, now), then))
	}
	if info, err := os.Stat(a.pair.key); err == nil && info.Mode().Perm()&0o077 != 0 {
		all = append(all, fmt.Sprintf("%s may be read by others, who can then speak for any host to your clients; run: chmod 600 %[1]s", a.pair.key))
	}
	return all
}

// plain is hosts without ports, each once, in their order.
func plain(hosts []string) []string {
	var all []string
	for _, h := range hosts {
		if h = bare(h); h != "" && !slices.Contains(all, h) {
			all = append(all, h)
		}
	}
	return all
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// create puts content at path, whole or not at all, and lasting. A file that is
// there already stays as it is: of several who create it the first wins, and
// all go on with what it wrote. So link, not rename, which would replace it.
func create(dir, path string, content []byte, mode fs.FileMode) error {
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // 0600 from the start
	if err != nil {
		return fmt.Errorf("%s cannot be made: %w", path, cause(err))
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(content)
	if err == nil {
		err = temp.Chmod(mode)
	}
	if err == nil {
		err = temp.Sync()
	}
	if closed := temp.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Link(temp.Name(), path)
	}
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("%s cannot be made: %w", path, cause(err))
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
