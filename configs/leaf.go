package configs

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"unicode"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/ratelimit"
)

// isLeaf reports whether v is written as one plain value.
func isLeaf(v reflect.Value) bool {
	switch v.Addr().Interface().(type) {
	case *string, *bool, *int, **bool, *Duration, *Secret, **url.URL, *netip.Addr, *netip.Prefix,
		*auth.Subject, *auth.Pattern, *auth.TagPattern, *auth.Action, *Amount, *Count, *Per:
		return true
	}
	return false
}

// isLeafList reports whether t is a list of plain values.
func isLeafList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && isLeaf(reflect.New(t.Elem()).Elem())
}

// parseLeaf reads text into the type of v.
func parseLeaf(text string, v reflect.Value) error {
	var err error
	switch t := v.Addr().Interface().(type) {
	case *string:
		*t, err = text, checkText(text)
	case *Secret:
		*t = NewSecret(text)
	case *bool:
		*t, err = parseBool(text)
	case **bool:
		var b bool
		b, err = parseBool(text)
		*t = &b
	case *int:
		*t, err = parseInt(text)
	case *Duration:
		*t, err = parseDurationLeaf(text)
	case **url.URL:
		*t, err = parseURL(text)
	case *netip.Addr:
		*t, err = parseAddr(text)
	case *netip.Prefix:
		*t, err = parsePrefix(text)
	case *auth.Subject:
		*t, err = auth.ParseSubject(text)
	case *auth.Pattern:
		*t, err = auth.ParsePattern(text)
	case *auth.TagPattern:
		*t, err = auth.ParseTagPattern(text)
	case *auth.Action:
		*t, err = parseAction(text)
	case *Amount:
		*t, err = Amount(text), checkText(text) // read once it is known what is counted
	case *Count:
		*t, err = parseCount(text)
	case *Per:
		*t, err = parsePer(text)
	default:
		err = fault{"cannot be read", ""}
	}
	return err
}

// syntax takes apart the errors of the packages that know their own text form.
func syntax(err error) (msg, fix string, ok bool) {
	var a *auth.SyntaxError
	if errors.As(err, &a) {
		return a.Msg, a.Fix, true
	}
	var r *ratelimit.SyntaxError
	if errors.As(err, &r) {
		return r.Msg, r.Fix, true
	}
	return "", "", false
}

func checkText(text string) error {
	if strings.IndexFunc(text, unicode.IsControl) >= 0 {
		return fault{"has control characters in it", ""}
	}
	if len(text) > 4096 {
		return fault{"is longer than 4096 bytes", ""}
	}
	return nil
}

// colonsBelong is true of names that are nobody's at a prompt: those of
// certificates (spiffe://…), and those that are made of an issuer's claims
// (k8s/system:serviceaccount:ci:builder, gl/acme/app:main).
func colonsBelong(name string) bool {
	if scheme, _, uri := strings.Cut(name, "://"); uri {
		return !strings.Contains(scheme, ":")
	}
	first, _, _ := strings.Cut(name, ":")
	return strings.Contains(first, "/") || strings.HasPrefix(name, "system:serviceaccount:")
}

// checkName refuses what can be no user's or group's name.
func checkName(what, name string) error {
	if name == "" {
		return fault{"an empty " + what + " name", ""}
	}
	if err := checkText(name); err != nil {
		return err
	}
	if kind, rest, prefixed := strings.Cut(name, ":"); prefixed && (kind == "user" || kind == "group") {
		return fault{fmt.Sprintf("%q: only names stand here", clip(name)), fmt.Sprintf("write %q", rest)}
	}
	if strings.Contains(name, ":") && !colonsBelong(name) {
		return fault{fmt.Sprintf("%q: a %s name has no colon", clip(name), what), ""}
	}
	return nil
}

func parseBool(text string) (bool, error) {
	switch text {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fault{fmt.Sprintf("%q is neither true nor false", clip(text)), "write true or false"}
}

func parseInt(text string) (int, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, fault{fmt.Sprintf("%q is no whole number", clip(text)), ""}
	}
	return int(n), nil
}

func parseDurationLeaf(text string) (Duration, error) {
	d, err := ParseDuration(text)
	if err != nil {
		return 0, fault{err.Error(), "write 30s, 5m, 6h or 7d"}
	}
	return d, nil
}

// parseURL reads an upstream's address. It never quotes one with a login in it.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	const fix = "write it like http://registry:5000"
	switch {
	case err != nil && strings.Contains(text, "@"):
		return nil, fault{"this is no URL", fix}
	case err != nil:
		return nil, fault{fmt.Sprintf("%q is no URL", clip(text)), fix}
	case u.User != nil:
		return nil, fault{"a login inside of a URL ends up in logs", "write username and password beside url"}
	case u.Scheme != "http" && u.Scheme != "https" && !strings.Contains(text, "://"):
		return nil, fault{fmt.Sprintf("%q does not begin with http:// or https://", clip(text)), fmt.Sprintf("write %q or %q", "https://"+clip(text), "http://"+clip(text))}
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fault{fmt.Sprintf("%q is neither http nor https", clip(text)), fix}
	case u.Hostname() == "":
		return nil, fault{fmt.Sprintf("%q names no host", clip(text)), fix}
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fault{"a registry's URL has no ? and no #", fix}
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return nil, fault{fmt.Sprintf("%q is no port", port), fix}
		}
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	if u.Path == "/v2" || strings.HasSuffix(u.Path, "/v2") {
		return nil, fault{fmt.Sprintf("%q ends in /v2, which is added by itself", clip(text)), fmt.Sprintf("write %q", strings.TrimSuffix(u.Scheme+"://"+u.Host+u.Path, "/v2"))}
	}
	for _, part := range strings.Split(u.Path, "/") {
		if part == "." || part == ".." {
			return nil, fault{fmt.Sprintf("%q has dots for a path part", clip(text)), ""}
		}
	}
	return u, nil
}

func parseAddr(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fault{fmt.Sprintf("%q is no IP address", clip(text)), ""}
	}
	return a.Unmap(), nil
}

// parsePrefix reads a network; a bare address is the network of it alone.
func parsePrefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fault{fmt.Sprintf("%q is no network", clip(text)), "write it like 10.0.0.0/8, fd00::/8 or 10.0.0.7"}
	}
	if p != p.Masked() {
		return netip.Prefix{}, fault{fmt.Sprintf("%q has address bits behind its /%d", text, p.Bits()), fmt.Sprintf("write %q for the network, %q for the one address", p.Masked(), p.Addr())}
	}
	return p, nil
}

func parseAction(text string) (auth.Action, error) {
	for _, a := range []auth.Action{auth.Pull, auth.Push, auth.Delete} {
		if a.String() == text {
			return a, nil
		}
	}
	return 0, fault{fmt.Sprintf("%q is no action", clip(text)), "write pull, push or delete"}
}

func parseCount(text string) (Count, error) {
	switch c := Count(text); c {
	case CountPulls, CountPushes, CountRequests, CountBytes, CountTransfers, CountFailedLogins:
		return c, nil
	}
	return "", choice(text, countWords()...)
}

func parsePer(text string) (Per, error) {
	switch p := Per(text); p {
	case PerClient, PerUser, PerIP, PerGroup, PerNamespace, PerRepository, PerAll:
		return p, nil
	}
	return "", choice(text, "client", "user", "ip", "group", "namespace", "repository", "all")
}

// choice refuses a word that is not one of a closed set.
func choice(text string, known ...string) error {
	msg := fmt.Sprintf("%q is not known here", clip(text))
	if best := Nearest(text, known); best != "" {
		msg += fmt.Sprintf("; did you mean %q?", best)
	}
	return fault{msg, "write " + orList(known)}
}

func orList(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// add puts a subject or a network into the set.
func (e *Exempt) add(text string) error {
	_, addrErr := netip.ParseAddr(text)
	_, netErr := netip.ParsePrefix(text)
	if addrErr == nil || netErr == nil {
		p, err := parsePrefix(text)
		if err == nil {
			e.Networks = append(e.Networks, p)
		}
		return err
	}
	s, err := auth.ParseSubject(text)
	if err == nil {
		e.Subjects = append(e.Subjects, s)
	}
	return err
}
