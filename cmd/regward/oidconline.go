package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

// clockOff is by how much an issuer's clock, or a program's, and ours may differ.
const (
	clockOff = time.Minute
	setClock = "set this machine's clock (timedatectl set-ntp true)"
)

// otherClock says by how much this machine's clock differs from that of whoever
// sent a date; "" if by little, or where none was sent.
func otherClock(date time.Time, whose string) string {
	off := time.Until(date)
	if date.IsZero() || off.Abs() <= clockOff {
		return ""
	}
	late := "behind"
	if off < 0 {
		late = "ahead of"
	}
	return fmt.Sprintf("this machine's clock is %v %s that of %s", off.Abs().Round(time.Second), late, whose)
}

// checkOIDC asks each issuer what the file cannot say: whether its discovery
// document can be had and is its own, whether it has keys for the algorithms that
// are taken, and what time it has.
func checkOIDC(ctx context.Context, cfg *configs.Config, say reporter) {
	issuers, err := buildOIDC(cfg, nil, nil)
	if err != nil || issuers == nil {
		if key := (*keyError)(nil); errors.As(err, &key) {
			say(configs.Error, key.path, key.err.Error(), "")
		}
		return
	}
	for i := range cfg.Auth.OIDC {
		checkIssuer(ctx, issuers, i, &cfg.Auth.OIDC[i], say)
	}
}

func checkIssuer(ctx context.Context, issuers *auth.OIDC, i int, o *configs.OIDC, say reporter) {
	ctx, cancel := context.WithTimeout(ctx, onlineFor)
	defer cancel()
	at := fmt.Sprintf("auth.oidc[%d]", i)
	found, err := issuers.Probe(ctx, i)
	if off := otherClock(found.Date, o.Issuer); off != "" {
		say(configs.Error, at+".issuer", off+": its tokens seem to be expired, or from the future", setClock)
	}
	if err != nil {
		path, fix := issuerFix(err, at)
		say(configs.Error, path, fmt.Sprintf("issuer %s cannot be asked for its keys: %v", o.Issuer, err), fix)
		return
	}
	wanted := strings.Join(o.Algorithms, ", ")
	signs := func(alg string) bool { return slices.Contains(found.Signs, alg) }
	switch {
	case len(found.Signs) > 0 && !slices.ContainsFunc(o.Algorithms, signs):
		fix := "let it sign with a key of its own, RS256 or ES256"
		if len(found.Known) > 0 {
			fix = "write algorithms: [" + strings.Join(found.Known, ", ") + "]"
		}
		say(configs.Error, at+".algorithms", fmt.Sprintf("issuer %s says it signs with %s, and tokens signed with %s are taken", o.Issuer, strings.Join(found.Signs, ", "), wanted), fix)
	case len(found.Usable) == 0:
		say(configs.Error, at+".algorithms", fmt.Sprintf("issuer %s has no key for %s", o.Issuer, wanted), "write what its tokens have for alg")
	}
}

// issuerFix says which key helps, where one does.
func issuerFix(err error, at string) (path, fix string) {
	var (
		e     *auth.IssuerError
		other *auth.OtherIssuer
	)
	if errors.As(err, &other) && strings.HasPrefix(other.Document, "https://") {
		return at + ".issuer", "if that is the one, write issuer: " + other.Document + ", letter by letter"
	}
	if path, fix := tlsFix(err, at, at+".issuer"); path != "" {
		return path, fix
	}
	if !errors.As(err, &e) {
		return at + ".issuer", ""
	}
	discovery := strings.HasSuffix(e.URL, "/.well-known/openid-configuration")
	switch {
	case errors.Is(err, auth.ErrOtherHost):
		return at + ".issuer", "write the issuer that it sends to, if the tokens have that for iss"
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
		return at + ".issuer", "it gives them to nobody without a login; in Kubernetes: kubectl create clusterrolebinding oidc-reviewer --clusterrole=system:service-account-issuer-discovery --group=system:unauthenticated"
	case e.Status == http.StatusNotFound && discovery:
		return at + ".issuer", "write what its tokens have for iss: the document is at that URL and /.well-known/openid-configuration"
	case e.Status >= 500 || e.Status == http.StatusTooManyRequests:
		return at + ".issuer", "try again later"
	case !discovery:
		return at + ".issuer", "that is what its discovery document names as jwks_uri: its operator has to publish the keys there"
	}
	return at + ".issuer", "write what its tokens have for iss: it is no issuer of OpenID Connect at that URL"
}

// tlsFix says which key helps against what keeps a connection from being made:
// entry is what has a ca_file, url the key of the address.
func tlsFix(err error, entry, url string) (path, fix string) {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		dns     *net.DNSError
		dial    *net.OpError
	)
	switch {
	case errors.As(err, &unknown):
		return entry + ".ca_file", fmt.Sprintf("name the CA that its certificate comes from in %s.ca_file", entry)
	case errors.As(err, &name):
		return url, "write a name that the certificate has"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return url, "its certificate has expired or is not valid yet; if it is good, set this machine's clock"
	case errors.As(err, &dns):
		return url, "check the name in " + url
	case late(err) || errors.As(err, &dial) && dial.Op == "dial":
		return url, "is it running, and may this host reach it?"
	}
	return "", ""
}
