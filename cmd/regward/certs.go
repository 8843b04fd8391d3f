package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/regward/regward/configs"
	regtls "github.com/regward/regward/tls"
)

// certificates are those in use. A connection takes what is there when it
// begins, so a reload may even change the mode.
type certificates struct {
	current atomic.Pointer[certificate]

	// Both are set once, after which a source may ask for certificates.
	listening bool
	http01    bool // a plain listener is open
}

// certificate is one source and what it was made from.
type certificate struct {
	source *regtls.Source // nil for mode off
	config *tls.Config
	mode   string
	cert   string // file names
	key    string
	acme   [32]byte // of the settings for mode acme
	min    uint16
	hosts  []string
}

// config hands every connection to the source of now. The outer configuration
// holds the session ticket keys, so resumption survives reloads.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			if now := c.current.Load(); now != nil && now.config != nil {
				return now.config, nil
			}
			return nil, fmt.Errorf("no certificate yet")
		},
	}
}

// prepare makes what cfg asks for. A source that still fits is kept; refresh
// then reads its files again and is to be called last, since it is the one
// step that takes effect at once.
func (c *certificates) prepare(cfg *configs.Config, stateDir string, acme acmeSource) (next *certificate, refresh func() error, err error) {
	next = &certificate{
		mode: cfg.TLS.Mode, cert: cfg.TLS.CertFile, key: cfg.TLS.KeyFile,
		min: cfg.TLS.Min(), hosts: bareHosts(cfg.Hostname),
	}
	if next.mode == configs.TLSACME {
		next.acme = acme.sum()
	}
	nothing := func() error { return nil }
	old := c.current.Load()
	fits := old != nil && old.source != nil && old.mode == next.mode && old.cert == next.cert && old.key == next.key && old.acme == next.acme
	if fits && next.mode == configs.TLSACME {
		fits = slices.Equal(old.hosts, next.hosts) // other names take another source
	}
	switch {
	case next.mode == configs.TLSOff:
		return next, nothing, nil
	case fits && old.min == next.min && slices.Equal(old.hosts, next.hosts):
		return old, func() error { return old.source.Reload(old.hosts...) }, nil
	case fits:
		next.source = old.source
		next.config = next.source.Config(next.min)
		return next, func() error { return next.source.Reload(next.hosts...) }, nil
	case next.mode == configs.TLSACME:
		var until *regtls.Source
		if old != nil {
			until = old.source
		}
		next.source, err = acme.source(until)
	case next.mode == configs.TLSInternal:
		next.source, err = regtls.Internal(stateDir, next.hosts...)
	default:
		next.source, err = regtls.Files(next.cert, next.key)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("tls: %w", err)
	}
	next.config = next.source.Config(next.min)
	return next, nothing, nil
}

// ca is the CA that clients must be told to trust, nil if it is not our own.
func (c *certificate) ca() []byte {
	if c.source == nil || c.mode != configs.TLSInternal {
		return nil
	}
	return c.source.CA()
}

// reload reads the files again; what was in use stays in use if they are
// broken (M5).
func (c *certificates) reload() error {
	now := c.current.Load()
	if now == nil || now.source == nil {
		return nil
	}
	return now.source.Reload(now.hosts...)
}

// expiry is when the certificate for each name ends.
func (c *certificates) expiry() map[string]time.Time {
	now := c.current.Load()
	if now == nil || now.source == nil {
		return nil
	}
	return now.source.Expiry()
}

// problems are sentences about what is in use: an end that is near (M4), a
// name it does not cover, a pair that is broken.
func (c *certificates) problems(now time.Time) []string {
	cur := c.current.Load()
	if cur == nil || cur.source == nil {
		return nil
	}
	return cur.source.Problems(cur.hosts, now)
}

// stage is how near the nearest end is, as regtls.Stage has it.
func (c *certificates) stage(now time.Time) int {
	var first time.Time
	for _, end := range c.expiry() {
		if first.IsZero() || end.Before(first) {
			first = end
		}
	}
	if first.IsZero() {
		return -1
	}
	return regtls.Stage(first, now)
}

// watchExpiry warns of certificates whose end came nearer: 30, 14, 7 and 1 day
// before. What is wrong at a load, the load tells.
func (s *server) watchExpiry(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	last := s.certs.stage(s.now())
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if stage := s.certs.stage(s.now()); stage != last {
			last = stage
			s.warnCertificate()
		}
	}
}

func (s *server) warnCertificate() {
	for _, problem := range s.certs.problems(s.now()) {
		s.log.Warn(problem)
	}
}
