package tls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// maxDirectory is more than any directory has.
const maxDirectory = 64 << 10

// CheckDirectory asks the CA for its directory, which costs nothing, and says why
// it would give no certificate as far as that tells: it cannot be reached, is none,
// or wants an account outside that o does not name.
func CheckDirectory(ctx context.Context, o ACMEOptions) error {
	if o.Directory == "" {
		o.Directory = LetsEncrypt
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second, DisableKeepAlives: true, ForceAttemptHTTP2: true,
	}
	if o.CA != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(o.CA) {
			return errors.New("the CA of the directory holds no certificate in PEM form")
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, o.Directory, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return errors.New(directoryWords(o.Directory, o.CA != nil, err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s and no ACME directory: check tls.acme_directory", o.Directory, resp.Status)
	}
	var directory struct {
		NewOrder string `json:"newOrder"`
		Meta     struct {
			ExternalAccountRequired bool `json:"externalAccountRequired"`
		} `json:"meta"`
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDirectory))
	if err != nil {
		return errors.New(directoryWords(o.Directory, o.CA != nil, err))
	}
	if json.Unmarshal(body, &directory) != nil || !strings.HasPrefix(directory.NewOrder, "https://") {
		return fmt.Errorf("%s does not answer with an ACME directory: check tls.acme_directory", o.Directory)
	}
	if directory.Meta.ExternalAccountRequired && o.EAB.KeyID == "" {
		return fmt.Errorf("%s gives certificates to its customers alone: set tls.acme_eab.key_id and mac_key as it gives them", o.Directory)
	}
	return nil
}

// CheckHost says what keeps a public CA from reaching host, as far as DNS tells
// here: M17, or that there is no such name. It is "" if nothing is known to.
func CheckHost(ctx context.Context, host string) string {
	resolver := &net.Resolver{}
	look := func(ctx context.Context, host string) ([]net.IP, error) { return resolver.LookupIP(ctx, "ip", host) }
	if msg := Unreachable(ctx, look, host); msg != "" || net.ParseIP(host) != nil {
		return msg
	}
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	_, err := look(ctx, host)
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return fmt.Sprintf("hostname %s is not in DNS: Let's Encrypt cannot reach it. Give it an address there.", host)
	}
	return ""
}
