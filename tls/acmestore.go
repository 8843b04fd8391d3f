package tls

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
)

// certFolder holds one file for each directory and name, with the key, the chain
// and nothing else: what belongs together is replaced together, so that nobody
// ever finds the key of one certificate beside another.
//
//	certificates/acme-v02.api.letsencrypt.org-directory/registry.example.com.pem
const certFolder = "certificates"

// kept is one certificate as it is stored and served. It does not change.
type kept struct {
	cert   *tls.Certificate // with its Leaf
	pem    []byte           // as it is stored
	issuer string           // the directory's name in storage
	at     string           // where it was read, "" for what was just made
}

// newer reports whether k is to be served rather than old: one of the directory
// in force rather than another, then the one that was issued later. It may end
// earlier: a CA that has revoked a certificate gives another at once.
func (k *kept) newer(old *kept, issuer string) bool {
	switch {
	case k == nil || old == nil:
		return k != nil
	case (k.issuer == issuer) != (old.issuer == issuer):
		return k.issuer == issuer
	}
	if c := k.cert.Leaf.NotBefore.Compare(old.cert.Leaf.NotBefore); c != 0 {
		return c > 0
	}
	return k.cert.Leaf.NotAfter.After(old.cert.Leaf.NotAfter)
}

func certKey(issuer, host string) string {
	return path.Join(certFolder, issuer, certmagic.StorageKeys.Safe(host)+".pem")
}

// parseKept makes a certificate for host of what is stored.
func parseKept(at, issuer, host string, content []byte) (*kept, error) {
	p := pair{at, at}
	cert, err := p.parse(content, content)
	if err != nil {
		return nil, err
	}
	if err := cert.Leaf.VerifyHostname(host); err != nil {
		return nil, fmt.Errorf("%s is not for %s", at, host)
	}
	return &kept{cert: cert, pem: content, issuer: issuer, at: at}, nil
}

// bundle is key and chain in one.
func bundle(key, chain []byte) []byte {
	return append(bytes.Clone(key), chain...)
}

func keyPEMOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// loaded is what one look into storage found.
type loaded struct {
	best *kept   // of both places, nil for none
	errs []error // what could not be read; there may be more
}

// load looks for the certificate for host of the directory in force: in the
// storage that is shared, and in the folder, which has a copy of what was last
// used. other also takes one of another directory, so that a change of the
// directory interrupts nothing.
func (m *manager) load(ctx context.Context, host string, other bool) loaded {
	var l loaded
	own, err := read(ctx, m.folder, m.issuer, host)
	l.take(own, err, m)
	if m.o.Storage != nil {
		shared, err := read(ctx, m.o.Storage, m.issuer, host)
		l.take(shared, err, m)
	}
	if l.best != nil || !other {
		return l
	}
	for _, storage := range m.places() {
		issuers, err := storage.List(ctx, certFolder, false)
		if err != nil {
			continue // none there, or told above
		}
		for _, issuer := range issuers {
			if issuer = path.Base(issuer); issuer != m.issuer {
				found, err := read(ctx, storage, issuer, host)
				l.take(found, err, m)
			}
		}
	}
	return l
}

func (l *loaded) take(k *kept, err error, m *manager) {
	if err != nil {
		l.errs = append(l.errs, err)
	}
	if k.newer(l.best, m.issuer) {
		l.best = k
	}
}

// read is nil without an error if there is none.
func read(ctx context.Context, s certmagic.Storage, issuer, host string) (*kept, error) {
	key := certKey(issuer, host)
	content, err := s.Load(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	at := key + " in Redis"
	if f, ok := s.(*Folder); ok {
		at = path.Join(f.dir, key)
	}
	return parseKept(at, issuer, host, content)
}

// places are all storages that certificates are in.
func (m *manager) places() []certmagic.Storage {
	if m.o.Storage == nil {
		return []certmagic.Storage{m.folder}
	}
	return []certmagic.Storage{m.folder, m.o.Storage}
}

// save keeps k in all places. What could not be written is tried again with the
// next look at this certificate.
func (m *manager) save(ctx context.Context, host string, k *kept) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*answerWithin) // it was paid for
	defer cancel()
	var errs []error
	for _, s := range m.places() {
		old, err := read(ctx, s, k.issuer, host)
		if err == nil && old != nil && bytes.Equal(old.pem, k.pem) {
			continue
		}
		errs = append(errs, s.Store(ctx, certKey(k.issuer, host), k.pem))
	}
	return errors.Join(errs...)
}

// lifetime is how long the certificate is good in all.
func (k *kept) lifetime() time.Duration { return k.cert.Leaf.NotAfter.Sub(k.cert.Leaf.NotBefore) }

// issuerName is a directory's name in storage.
func issuerName(directory string) string {
	name := strings.NewReplacer("https://", "", "http://", "", "/", "-").Replace(directory)
	return certmagic.StorageKeys.Safe(strings.Trim(name, "-"))
}
