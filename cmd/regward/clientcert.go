package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

// keyError is what is wrong with what a key of the configuration names.
type keyError struct {
	path string
	err  error
}

func (e *keyError) Error() string { return e.path + ": " + e.err.Error() }

func (e *keyError) Unwrap() error { return e.err }

// buildCertificates is whom clients' certificates speak for, nil if none is
// asked for. The error is a *keyError.
func buildCertificates(cfg *configs.Config) (*auth.Certificates, error) {
	t := &cfg.TLS
	if len(t.ClientCA) == 0 {
		return nil, nil
	}
	o := auth.CertificateOptions{CaseSensitive: cfg.Auth.CaseSensitive}
	switch t.ClientCert.User {
	case configs.ClientSANDNS:
		o.User = auth.ByDNSName
	case configs.ClientSANURI:
		o.User = auth.ByURI
	}
	certs, err := auth.ParseCertificates(t.ClientCA, o)
	if err != nil {
		return nil, &keyError{"tls.client_ca_file", fmt.Errorf("%s %w", t.ClientCAFile, err)}
	}
	if t.ClientCert.CRLFile == "" {
		return certs, nil
	}
	if certs, err = certs.Revoking(t.ClientCert.CRL); err != nil {
		return nil, &keyError{"tls.client_cert.crl_file", fmt.Errorf("%s: %w", t.ClientCert.CRLFile, err)}
	}
	return certs, nil
}

// asking has connections asked for the client's certificate, by the
// configuration in force as they begin. The handshake lets any pass that is no
// burden, and whoever has none: what is wrong with one is said in an answer
// (X05). Clients are told the names of the CAs, so that they show no other's.
func (s *server) asking(config *tls.Config) *tls.Config {
	type asked struct {
		by       *auth.Certificates
		of, made *tls.Config
	}
	var last atomic.Pointer[asked]
	choose := config.GetConfigForClient
	config = config.Clone()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		chosen, err := choose(hello)
		now := s.handler.Current()
		if err != nil || chosen == nil || now == nil || now.Certificates == nil {
			return chosen, err
		}
		if l := last.Load(); l != nil && l.by == now.Certificates && l.of == chosen {
			return l.made, nil
		}
		made := chosen.Clone()
		made.ClientAuth, made.ClientCAs = tls.RequestClientCert, now.Certificates.Roots()
		made.VerifyConnection = boundShown
		last.Store(&asked{now.Certificates, chosen, made})
		return made, nil
	}
	return config
}

// boundShown ends connections whose certificates would fill the memory, before
// anything is asked of them: crypto/tls takes 256 KiB of each, and names of a
// few bytes are parsed into hundreds.
func boundShown(c tls.ConnectionState) error {
	size, names := 0, 0
	for _, one := range c.PeerCertificates {
		size += len(one.Raw)
		names += len(one.DNSNames) + len(one.EmailAddresses) + len(one.IPAddresses) + len(one.URIs)
	}
	if size > auth.MaxShownBytes {
		return fmt.Errorf("the client shows %d bytes of certificates, and %d are taken", size, auth.MaxShownBytes)
	}
	if names > auth.MaxShownNames {
		return fmt.Errorf("the client shows certificates with %d names, and %d are taken", names, auth.MaxShownNames)
	}
	return nil
}

// clientCertProblems are sentences about what clients' certificates are judged
// by.
func (s *server) clientCertProblems() []string {
	if now := s.handler.Current(); now != nil && now.Certificates != nil {
		return now.Certificates.Problems(s.now())
	}
	return nil
}

// watchRevocations warns of a list that is out of date: as it becomes so, and
// every day that it stays so. What is wrong at a load, the load tells.
func (s *server) watchRevocations(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	last, told := s.clientCertProblems(), s.now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if found := s.clientCertProblems(); !slices.Equal(found, last) || s.now().Sub(told) >= 24*time.Hour {
			last, told = found, s.now()
			s.warnClientCerts()
		}
	}
}

func (s *server) warnClientCerts() {
	for _, problem := range s.clientCertProblems() {
		s.log.Warn("tls.client_ca_file: " + problem)
	}
}
