package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	fetchTime    = 5 * time.Second // for the discovery document and the keys together
	maxRedirects = 3
	minRSA       = 2048 // bits
	maxRSA       = 8192
)

// IssuerError is what an issuer cannot be asked for. It is an ErrUnavailable and
// no ErrRejected.
type IssuerError struct {
	URL    string // what was asked
	Status int    // 0 unless it answered, and not with 200
	Err    error
}

func (e *IssuerError) Error() string { return fmt.Sprintf("%s %v", e.URL, e.Err) }

// Unwrap is the cause, and ErrUnavailable.
func (e *IssuerError) Unwrap() []error { return []error{e.Err, ErrUnavailable} }

// OtherIssuer is a discovery document that speaks for somebody else.
type OtherIssuer struct{ Configured, Document string }

func (e *OtherIssuer) Error() string {
	return fmt.Sprintf("describes the issuer %s rather than %s", shorten(e.Document), shorten(e.Configured))
}

// ErrOtherHost is an issuer that sends to somebody else.
var ErrOtherHost = errors.New("it redirects to another host, which is not followed")

// published is what an issuer says of itself.
type published struct {
	keysURL    string
	algorithms []string // that it says it signs with; it may say nothing
	keys       []publicKey
	date       time.Time // its clock; zero if it does not tell
}

// publicKey is one that signatures can be checked with.
type publicKey struct {
	kid, alg string // "" where the issuer does not say
	key      crypto.PublicKey
}

// fits reports whether alg signs with such a key: RS256 is no way to use a key
// of a curve, and none is a secret.
func (k *publicKey) fits(alg string) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	switch key := k.key.(type) {
	case *rsa.PublicKey:
		bits := key.N.BitLen()
		return slices.Contains([]string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, alg) && minRSA <= bits && bits <= maxRSA
	case *ecdsa.PublicKey:
		return alg == map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[key.Curve.Params().BitSize]
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

// issuerClient asks one issuer. It follows no redirect to another host, keeps no
// connection between two fetches, and bounds what it reads.
type issuerClient struct {
	transport *http.Transport
	most      time.Duration
}

func newIssuerClient(ca []byte) (*issuerClient, error) {
	config, err := tlsWithCA(ca)
	if err != nil {
		return nil, err
	}
	return &issuerClient{most: fetchTime, transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment, // issuers are out in the Internet, as ACME's directories are
		TLSClientConfig:        config,
		DisableCompression:     true, // what is bounded is what is read
		MaxResponseHeaderBytes: MaxDiscovery,
		MaxConnsPerHost:        2,
	}}, nil
}

// tlsWithCA believes the CAs in PEM alone, or the system's.
func tlsWithCA(ca []byte) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(ca) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("ca_file holds no certificate in PEM")
		}
	}
	return config, nil
}

// fetch reads the discovery document and the keys. The error is an *IssuerError.
func (c *issuerClient) fetch(ctx context.Context, issuer string) (p published, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.most)
	defer cancel()
	defer c.transport.CloseIdleConnections()
	where := strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
	body, date, err := c.get(ctx, where, MaxDiscovery)
	if err != nil {
		return p, err
	}
	var document struct {
		Issuer     string   `json:"issuer"`
		KeysURL    string   `json:"jwks_uri"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
	}
	p.date = date
	if err := json.Unmarshal(body, &document); err != nil {
		return p, &IssuerError{URL: where, Err: errors.New("is no discovery document: it is no JSON, or of another form")}
	}
	if document.Issuer != issuer {
		return p, &IssuerError{URL: where, Err: &OtherIssuer{issuer, document.Issuer}}
	}
	p.keysURL, p.algorithms = document.KeysURL, document.Algorithms
	if u, err := url.Parse(p.keysURL); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return p, &IssuerError{URL: where, Err: fmt.Errorf("names no place of keys with https: jwks_uri is %s", shorten(p.keysURL))}
	}
	if body, _, err = c.get(ctx, p.keysURL, MaxKeySet); err != nil {
		return p, err
	}
	if p.keys, err = readKeys(body); err != nil {
		return p, &IssuerError{URL: p.keysURL, Err: err}
	}
	return p, nil
}

// readKeys passes over keys of kinds that are not known here: others may be able
// to use them.
func readKeys(body []byte) (keys []publicKey, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(body, &set) != nil || set.Keys == nil {
		return nil, errors.New("is no set of keys (JWKS)")
	}
	for _, raw := range set.Keys {
		var one jose.JSONWebKey
		if one.UnmarshalJSON(raw) != nil || !one.IsPublic() || !one.Valid() || one.Use != "" && one.Use != "sig" {
			continue
		}
		keys = append(keys, publicKey{one.KeyID, one.Algorithm, one.Key})
	}
	if len(keys) == 0 {
		return nil, errors.New("has no key that checks a signature")
	}
	return keys, nil
}

// get reads one document of at most so many bytes, and what its sender's clock
// says. The error is an *IssuerError.
func (c *issuerClient) get(ctx context.Context, where string, most int64) (body []byte, date time.Time, err error) {
	failed := func(err error) ([]byte, time.Time, error) {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("does not answer within %v: %w", c.most, err)
		} else {
			err = fmt.Errorf("cannot be read: %w", err)
		}
		return nil, date, &IssuerError{URL: where, Err: err}
	}
	res, err := c.follow(ctx, where)
	if err != nil {
		return failed(err)
	}
	defer res.Body.Close()
	date, _ = http.ParseTime(res.Header.Get("Date"))
	if res.StatusCode != http.StatusOK {
		return nil, date, &IssuerError{URL: where, Status: res.StatusCode, Err: fmt.Errorf("answers %d", res.StatusCode)}
	}
	body, err = io.ReadAll(io.LimitReader(res.Body, most+1))
	if err != nil {
		return failed(err)
	}
	if int64(len(body)) > most {
		return nil, date, &IssuerError{URL: where, Err: fmt.Errorf("is longer than %d bytes", most)}
	}
	return body, date, nil
}

// follow asks, and again where the same host sends it.
func (c *issuerClient) follow(ctx context.Context, where string) (*http.Response, error) {
	u, err := url.Parse(where)
	if err != nil {
		return nil, errors.New("it is no URL")
	}
	for range maxRedirects + 1 {
		req := (&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{
			"Accept": {"application/json"}, "User-Agent": {"regward"},
		}}).WithContext(ctx)
		res, err := c.transport.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		if res.StatusCode < 300 || res.StatusCode > 399 {
			return res, nil
		}
		_ = res.Body.Close()
		next, err := u.Parse(res.Header.Get("Location"))
		if err != nil || next.Scheme != u.Scheme || next.Host != u.Host {
			return nil, ErrOtherHost
		}
		u = next
	}
	return nil, fmt.Errorf("it redirects more than %d times", maxRedirects)
}
