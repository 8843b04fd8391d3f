package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
	regtls "github.com/regward/regward/tls"
)

// acmeDir is the name, in state_dir, of the folder with accounts and
// certificates.
const acmeDir = "acme"

// storedWithin is how long a start may look for stored certificates in Redis:
// there are copies in state_dir.
const storedWithin = 5 * time.Second

// acmeSource makes a source of mode acme.
type acmeSource struct {
	options regtls.ACMEOptions
	keys    [][32]byte // seal what is written to Redis
	server  *server
}

// acmeSource is what cfg asks for.
func (s *server) acmeSource(cfg *configs.Config, tokens *auth.Tokens) acmeSource {
	return acmeSource{acmeOptions(cfg, s.first.StateDir), tokens.Derive("acme in redis"), s}
}

func acmeOptions(cfg *configs.Config, stateDir string) regtls.ACMEOptions {
	t := &cfg.TLS
	o := regtls.ACMEOptions{
		Hosts:     bareHosts(cfg.Hostname),
		Directory: t.ACMEDirectory,
		Email:     t.ACMEEmail,
		EAB:       regtls.EAB{KeyID: t.ACMEEAB.KeyID, MACKey: regtls.Secret(t.ACMEEAB.MACKey.Reveal())},
		Dir:       filepath.Join(stateDir, acmeDir),
	}
	if t.ACMECAFile != "" {
		o.CA = t.ACMECA
	}
	if d := &t.ACMEDNS; d.Set() {
		o.DNS = &regtls.DNS01{Server: d.Server, Zone: d.Zone, KeyName: d.KeyName, KeySecret: regtls.Secret(d.KeySecret.Reveal()), Algorithm: d.Algorithm}
	}
	return o
}

// sum tells settings from each other. Hosts are compared too: each has a
// certificate of its own, and what is stored is found again.
func (a acmeSource) sum() [32]byte {
	o := &a.options
	parts := []string{o.Directory, string(o.CA), o.Email, o.EAB.KeyID, string(o.EAB.MACKey), fmt.Sprintf("%x", a.keys)}
	if d := o.DNS; d != nil {
		parts = append(parts, d.Server, d.Zone, d.KeyName, string(d.KeySecret), d.Algorithm)
	}
	return sha256.Sum256(fmt.Appendf(nil, "%q", parts))
}

// source asks nobody but the storage. until is the source in use up to now.
func (a acmeSource) source(until *regtls.Source) (*regtls.Source, error) {
	s, o := a.server, a.options
	if s.shared.client != nil {
		storage, err := regtls.NewRedis(s.shared.client, s.first.Redis.KeyPrefix, a.keys)
		if err != nil {
			return nil, err
		}
		o.Storage = storage
	}
	o.Meanwhile = until
	ctx, cancel := context.WithTimeout(context.Background(), storedWithin)
	defer cancel()
	return regtls.ACME(ctx, o, s.log)
}

// startCertificates has certificates asked for and renewed from now on: a CA
// connects to the listeners. http01 says whether one of them is plain.
func (s *server) startCertificates(http01 bool) error {
	s.certs.listening, s.certs.http01 = true, http01
	return s.certs.current.Load().start(s.certs.http01)
}

// challenges answers HTTP-01 on the plain listener, and leaves the rest to next.
func (s *server) challenges(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if now := s.certs.current.Load(); now != nil && now.source != nil {
			now.source.HTTPHandler(next).ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// checkACME asks what only others know: whether the CA is there and would have
// us, and whether it can reach the hosts (M17).
func checkACME(ctx context.Context, cfg *configs.Config, say reporter) {
	if cfg.TLS.Mode != configs.TLSACME {
		return
	}
	o := acmeOptions(cfg, cfg.StateDir)
	if err := regtls.CheckDirectory(ctx, o); err != nil {
		say(configs.Error, "tls.acme_directory", err.Error(), "")
	}
	if o.Directory != "" || o.DNS != nil {
		return // a CA of one's own reaches what it reaches
	}
	for i, host := range o.Hosts {
		if msg := regtls.CheckHost(ctx, host); msg != "" {
			say(configs.Warning, fmt.Sprintf("hostname[%d]", i), msg, "")
		}
	}
}

// start does nothing for other modes than acme, or where it was done.
func (c *certificate) start(http01 bool) error {
	if c.source == nil {
		return nil
	}
	return c.source.Start(http01)
}

// use puts next in force, and ends what the one before did in the background.
// Before there are listeners, nobody is asked for a certificate.
func (c *certificates) use(next *certificate, log *zap.Logger) {
	old := c.current.Swap(next)
	if old != nil && old.source != nil && old.source != next.source {
		old.source.Close()
	}
	if c.listening {
		if err := next.start(c.http01); err != nil {
			log.Error("certificates are not renewed: " + err.Error())
		}
	}
}

// ready is nil once there is a certificate to serve.
func (c *certificates) ready() error {
	if now := c.current.Load(); now != nil && now.source != nil {
		return now.source.Ready()
	}
	return nil
}

// close ends what the source in use does in the background.
func (c *certificates) close() {
	if now := c.current.Load(); now != nil && now.source != nil {
		now.source.Close()
	}
}

// certificateStatus is one certificate, by its name, in the answer of GET
// /api/v1/status.
type certificateStatus struct {
	Mode    string    `json:"mode"`
	Issuer  string    `json:"issuer,omitempty"`
	Ends    time.Time `json:"ends,omitzero"`
	Problem string    `json:"problem,omitempty"` // why it was not obtained or renewed
	Next    time.Time `json:"next_try,omitzero"`
}

func (c *certificates) status() map[string]certificateStatus {
	now := c.current.Load()
	if now == nil || now.source == nil {
		return nil
	}
	all := map[string]certificateStatus{}
	for _, s := range now.source.States() {
		all[s.Name] = certificateStatus{now.mode, s.Issuer, s.End, s.Problem, s.Next}
	}
	return all
}

// words are one line of status.
func (c certificateStatus) words(name string, now time.Time) string {
	line := "certificate " + name + ": none yet"
	if !c.Ends.IsZero() {
		line = fmt.Sprintf("certificate %s: ends %s (%s)", name, c.Ends.UTC().Format("2006-01-02 15:04 MST"), until(c.Ends.Sub(now)))
	}
	if c.Mode != "" {
		line += ", " + c.Mode
	}
	if c.Issuer != "" {
		line += " by " + c.Issuer
	}
	if c.Problem != "" {
		line += ": " + map[bool]string{true: "not obtained", false: "not renewed"}[c.Ends.IsZero()] + ": " + c.Problem
		if !c.Next.IsZero() {
			line += "; trying again at " + c.Next.UTC().Format("15:04 UTC")
		}
	}
	return harmless(line)
}
