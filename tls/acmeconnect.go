package tls

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
)

// connect makes certmagic's part. Every setting is told, so that none is taken
// from its package variables.
//
// Its solvers would open a listener of their own on port 80 and 443 where they
// find none. Ours are there, on whatever address, so they are told an address
// that is taken, and leave the answering to whoever listens.
func (m *manager) connect(r *running, http01 bool) error {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		taken, err = net.Listen("tcp", "[::1]:0") // a host without IPv4
	}
	if err != nil {
		return fmt.Errorf("ACME: %w", err)
	}
	r.taken = taken
	go func() { // they knock to see whether it is
		for {
			conn, err := taken.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	quiet := zap.New(quietCore{m.log.Core()})
	storage := m.accounts()
	config := new(*certmagic.Config)
	r.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return *config, nil },
		OCSPCheckInterval:  24 * time.Hour, // of nothing: it holds no certificate
		RenewCheckInterval: 24 * time.Hour,
		Logger:             quiet,
	})
	*config = certmagic.New(r.cache, certmagic.Config{
		RenewalWindowRatio: 1.0 / 3,
		OnEvent:            func(context.Context, string, map[string]any) error { return nil },
		ShouldEmitFunc:     func(string) bool { return false },
		Issuers:            []certmagic.Issuer{},
		IssuerPolicy:       certmagic.UseFirstIssuer,
		KeySource:          certmagic.StandardKeyGenerator{KeyType: certmagic.P256},
		OCSP:               certmagic.OCSPConfig{DisableStapling: true},
		Storage:            storage,
		Logger:             quiet,
	})
	r.config = *config
	r.http = m.newIssuer(r, http01, "", quiet)
	r.config.Issuers = []certmagic.Issuer{r.http} // where challenges of other instances are looked for
	return nil
}

// newIssuer asks the directory for certificates of profile ("": the CA's own
// choice).
func (m *manager) newIssuer(r *running, http01 bool, profile string, log *zap.Logger) *certmagic.ACMEIssuer {
	taken := r.taken.Addr().(*net.TCPAddr)
	o := certmagic.ACMEIssuer{
		CA:                   m.o.Directory,
		TestCA:               m.o.Directory, // its own choice would be Let's Encrypt's
		Email:                m.o.Email,
		Agreed:               true,
		Profile:              profile,
		DisableHTTPChallenge: !http01,
		ListenHost:           taken.IP.String(),
		AltHTTPPort:          taken.Port,
		AltTLSALPNPort:       taken.Port,
		TrustedRoots:         m.roots,
		CertObtainTimeout:    pollWithin,
		HTTPProxy:            http.ProxyFromEnvironment,
		Logger:               log,
	}
	if m.o.EAB.KeyID != "" {
		o.ExternalAccount = &acme.EAB{KeyID: m.o.EAB.KeyID, MACKey: string(m.o.EAB.MACKey)}
	}
	if m.o.DNS != nil {
		o.DNS01Solver = dnsSolver{m.o.DNS}
	}
	return certmagic.NewACMEIssuer(r.config, o)
}
