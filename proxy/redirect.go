package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	maxHops     = 10              // redirects followed for one request (R19)
	maxLocation = 4 << 10         // bytes of a Location
	maxNames    = 1024            // names remembered as public or not
	namesTTL    = 1 * time.Minute // for so long
)

func redirects(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// redirected deals with a redirect that came from at: it is passed or followed
// (R18-R21), and what comes back is the answer for the client.
func (u *Upstream) redirected(ctx context.Context, out *outgoing, at *url.URL, resp *http.Response) (*http.Response, error) {
	read := out.Method == http.MethodGet || out.Method == http.MethodHead
	asked := at
	digest := resp.Header["Docker-Content-Digest"]
	for range maxHops {
		to, err := u.redirectTarget(at, resp)
		if err != nil {
			return nil, err
		}
		if !read && (!out.bodyless() || resp.StatusCode == http.StatusSeeOther) {
			drop(resp)
			return nil, broken(fmt.Errorf("upstream redirects a %s to %s: cannot be sent again", out.Method, to.Host))
		}
		follow, err := u.judge(ctx, out, asked, at, to, read)
		if err != nil {
			drop(resp)
			return nil, err
		}
		if !follow {
			resp.Header["Location"] = []string{to.String()}
			return resp, nil
		}
		drop(resp)
		if resp, err = u.step(ctx, out, to); err != nil {
			return nil, err
		}
		if !redirects(resp.StatusCode) {
			if len(digest) > 0 && len(resp.Header["Docker-Content-Digest"]) == 0 && resp.StatusCode < 300 {
				resp.Header["Docker-Content-Digest"] = digest
			}
			resp.Request = &http.Request{Method: out.Method, URL: to}
			return resp, nil
		}
		at = to
	}
	drop(resp)
	return nil, broken(fmt.Errorf("upstream redirects %s more than %d times", out.Method, maxHops))
}

// step asks where a redirect leads: the upstream with our credential, anybody
// else without.
func (u *Upstream) step(ctx context.Context, out *outgoing, to *url.URL) (*http.Response, error) {
	if !u.sameOrigin(to) {
		return u.visit(ctx, out, to)
	}
	next := *out
	next.URL = to
	req, _, err := u.request(&next)
	if err != nil {
		return nil, err
	}
	return u.send(ctx, &next, req)
}

// redirectTarget reads the Location of a redirect.
func (u *Upstream) redirectTarget(at *url.URL, resp *http.Response) (*url.URL, error) {
	values := resp.Header["Location"]
	if len(values) != 1 || len(values[0]) > maxLocation {
		drop(resp)
		return nil, broken(errors.New("upstream redirects without saying where to"))
	}
	to, err := at.Parse(values[0])
	if err != nil || !wholesome(to) {
		drop(resp)
		return nil, broken(fmt.Errorf("upstream redirects to a place that cannot be read (status %d)", resp.StatusCode))
	}
	// A registry behind somebody who ended TLS names itself by another scheme.
	if u.ownHost(to) && (to.Port() == "" || to.Port() == u.port) {
		u.reach(to)
	}
	return to, nil
}

// wholesome reports whether a URL of an upstream is one that can be asked.
func wholesome(v *url.URL) bool {
	return (v.Scheme == "https" || v.Scheme == "http") && v.Hostname() != "" && v.User == nil && v.Opaque == ""
}

// reach makes v a URL of the upstream as we reach it.
func (u *Upstream) reach(v *url.URL) {
	v.Scheme, v.Host, v.Fragment, v.RawFragment = u.scheme, u.host, "", ""
}

// judge decides whether a redirect is followed or passed; the error is that it
// can be neither.
func (u *Upstream) judge(ctx context.Context, out *outgoing, asked, at, to *url.URL, read bool) (follow bool, err error) {
	switch {
	case at.Scheme == "https" && to.Scheme == "http":
		return false, broken(fmt.Errorf("upstream redirects from https to http, host %q", to.Host))
	case u.ownHost(to):
		if intoAPI(to) && !samePath(asked, to) {
			return false, broken(errors.New("upstream redirects to another place below its own /v2/"))
		}
		return true, nil
	case u.listed(to):
		return true, nil
	case !read:
		return false, broken(fmt.Errorf("upstream redirects a %s to %q, which is not in redirect_hosts", out.Method, to.Host))
	case to.Scheme == "http":
		return false, broken(fmt.Errorf("upstream redirects to %q over plain http, and that is not in redirect_hosts", to.Host))
	}
	internal, err := u.names.internal(ctx, to.Hostname())
	if internal {
		return false, broken(fmt.Errorf("upstream redirects to %q, an internal address that is not in redirect_hosts", to.Host))
	}
	if u.settings.Follow || !out.Blob {
		return true, err
	}
	// A name we cannot look up may be known to the client.
	return isOurs(to.Hostname(), out.Hostnames), nil
}

// intoAPI reports whether a path on the upstream's host is below a /v2/.
func intoAPI(to *url.URL) bool {
	clean := path.Clean("/"+strings.ReplaceAll(to.Path, `\`, "/")) + "/"
	return strings.Contains(clean, "/v2/") || strings.Contains(to.Path, "/v2/")
}

func samePath(a, b *url.URL) bool { return a.EscapedPath() == b.EscapedPath() }

// isOurs reports whether host is one of regward's own names or below one: a
// client would send its token there (R20).
func isOurs(host string, ours []string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	for _, name := range ours {
		if h, _, err := net.SplitHostPort(name); err == nil {
			name = h
		}
		name = strings.ToLower(name)
		if host == name || strings.HasSuffix(host, "."+name) {
			return true
		}
	}
	return false
}

// visit asks a host that is not the upstream: storage. It gets no credential
// and no cookie, and knows nothing of the client but what it asks for (R19).
func (u *Upstream) visit(ctx context.Context, out *outgoing, to *url.URL) (*http.Response, error) {
	header := make(http.Header, 8)
	for _, name := range [...]string{"Accept", "Accept-Encoding", "Range", "If-Range", "If-None-Match", "If-Match",
		"If-Modified-Since", "If-Unmodified-Since", "User-Agent", "Content-Type", "Content-Range"} {
		if values, has := out.Header[name]; has {
			header[name] = values
		}
	}
	if _, has := header["User-Agent"]; !has {
		header["User-Agent"] = []string{"regward"}
	}
	ctx, cancel := context.WithCancel(ctx)
	watch := &idleWatch{cancel: cancel, idle: u.settings.IdleTimeout}
	req := (&http.Request{Method: out.Method, URL: to, Host: to.Host, Header: header, Body: http.NoBody}).WithContext(ctx)
	if !out.bodyless() {
		req.ContentLength = out.Length
		req.Body = io.NopCloser(sourceReader{out.Body})
	}
	transport := u.foreign
	if u.ownHost(to) {
		transport = u.own
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		cancel()
		return nil, err
	}
	if turnedAway(resp.StatusCode) || resp.StatusCode == http.StatusSwitchingProtocols {
		drop(resp)
		cancel()
		return nil, broken(fmt.Errorf("storage at %q answered %d", to.Host, resp.StatusCode))
	}
	if err := framed(out.Method, resp); err != nil {
		_ = resp.Body.Close()
		cancel()
		return nil, err
	}
	resp.Body = watch.over(resp.Body)
	return resp, nil
}

// framed refuses a success whose end could not be told from a broken
// connection: nobody would know half a blob from a whole one (G6).
func framed(method string, resp *http.Response) error {
	if method != http.MethodHead && resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 &&
		resp.StatusCode/100 == 2 && resp.StatusCode != http.StatusNoContent {
		return broken(errors.New("upstream's answer has no length"))
	}
	return nil
}

// idleWatch ends a transfer that does not move (H10): net/http's Transport
// knows no such limit.
type idleWatch struct {
	cancel context.CancelFunc
	idle   time.Duration
	timer  *time.Timer
	body   io.ReadCloser
	last   time.Time
}

func (w *idleWatch) over(body io.ReadCloser) io.ReadCloser {
	w.body, w.last = body, time.Now()
	w.timer = time.AfterFunc(w.idle, w.cancel)
	return w
}

func (w *idleWatch) Read(p []byte) (int, error) {
	if now := time.Now(); now.Sub(w.last) > time.Second {
		w.last = now
		w.timer.Reset(w.idle)
	}
	return w.body.Read(p)
}

func (w *idleWatch) Close() error {
	w.timer.Stop()
	err := w.body.Close()
	w.cancel()
	return err
}

// connectForeign reaches a host that a redirect named. Only redirect_hosts may
// be inside; of any other host a public address is dialled, or none (R19).
func (u *Upstream) connectForeign(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if strings.EqualFold(host, u.hostname) || hostPortIn(u.settings.RedirectHosts, host, port) {
		return u.connect(ctx, network, addr)
	}
	ctx, cancel := context.WithTimeout(ctx, u.settings.ConnectTimeout)
	defer cancel()
	addrs, err := u.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	err = fmt.Errorf("%q has no public address", host)
	for _, a := range addrs {
		if !public(a) {
			continue
		}
		// The address that was looked at is the one that is dialled.
		var conn net.Conn
		if conn, err = u.Dial(ctx, network, net.JoinHostPort(a.String(), port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

func (u *Upstream) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	return u.Resolve(ctx, host)
}

// special are networks that are not the internet, beside those that netip
// knows by name.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // carriers' NAT
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), // benchmarks
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), // NAT64: an IPv4 address in disguise
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2002::/16"), // 6to4, the same
	netip.MustParsePrefix("2001::/32"), // Teredo, the same
	netip.MustParsePrefix("fec0::/10"),
}

// public reports whether an address is one of the internet's: not loopback,
// private, link-local (where clouds keep their metadata), multicast or special.
func public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// addressBook remembers for a while whether a name leads inside.
type addressBook struct {
	u    *Upstream
	seen *lru.Cache[string, remembered]
}

type remembered struct {
	internal bool
	until    time.Time
}

func newAddressBook(u *Upstream) *addressBook {
	seen, _ := lru.New[string, remembered](maxNames) // fails for sizes below one only
	return &addressBook{u: u, seen: seen}
}

// internal reports whether a host is not on the internet: an address or a name
// that says so, or a name that leads to such an address. The error is that it
// could not be found out.
func (b *addressBook) internal(ctx context.Context, host string) (bool, error) {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if a, err := netip.ParseAddr(host); err == nil {
		return !public(a), nil
	}
	if insideName(host) {
		return true, nil
	}
	now := b.u.Now()
	if r, ok := b.seen.Get(host); ok && now.Before(r.until) {
		return r.internal, nil
	}
	ctx, cancel := context.WithTimeout(ctx, b.u.settings.ConnectTimeout)
	defer cancel()
	addrs, err := b.u.Resolve(ctx, host)
	if err != nil {
		return false, fmt.Errorf("looking up %q: %w", host, err)
	}
	r := remembered{until: now.Add(namesTTL)}
	for _, a := range addrs {
		r.internal = r.internal || !public(a)
	}
	b.seen.Add(host, r)
	return r.internal, nil
}

// insideName reports whether a name is one that only an inside knows.
func insideName(host string) bool {
	if !strings.Contains(host, ".") {
		return true
	}
	for _, suffix := range [...]string{".local", ".internal", ".localhost", ".svc", ".lan", ".home.arpa"} {
		if strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}

// resolveLocation makes of the Location of an upload's answer the URL where the
// upload goes on (R05). reqURL is what was asked.
func (u *Upstream) resolveLocation(reqURL *url.URL, loc string) (*url.URL, error) {
	if loc == "" || len(loc) > maxLocation {
		return nil, broken(errors.New("upstream's upload has no location, or too long a one"))
	}
	to, err := reqURL.Parse(loc)
	if err != nil || !wholesome(to) {
		return nil, broken(errors.New("upstream's upload location cannot be read"))
	}
	to.Fragment, to.RawFragment, to.ForceQuery = "", "", false
	switch {
	case u.ownHost(to):
		// By whatever scheme and port it calls itself, we reach it at ours.
		u.reach(to)
		u.addPrefix(to)
	case !u.listed(to):
		return nil, broken(fmt.Errorf("upstream sends an upload to %q: not its own host and not in redirect_hosts", to.Host))
	case reqURL.Scheme == "https" && to.Scheme == "http":
		return nil, broken(fmt.Errorf("upstream sends an upload from https to http, host %q", to.Host))
	}
	return to, nil
}

// addPrefix puts back what the upstream's URL has in front of /v2/, where the
// upstream leaves it out (Nexus does).
func (u *Upstream) addPrefix(to *url.URL) {
	if u.prefix == "" {
		return
	}
	escaped := to.EscapedPath()
	if !strings.HasPrefix(escaped, "/v2/") || strings.HasPrefix(escaped, u.prefix+"/") {
		return
	}
	raw := u.prefix + escaped
	if plain, err := url.PathUnescape(raw); err == nil {
		to.Path, to.RawPath = plain, raw
	}
}

// uploadTarget is the short form of where an upload goes on, to be sealed:
// path and query on the upstream, a whole URL elsewhere.
func (u *Upstream) uploadTarget(to *url.URL) string {
	if u.sameOrigin(to) {
		return to.RequestURI()
	}
	return to.String()
}

// uploadURL is the inverse of uploadTarget. digest, if any, is appended to the
// query, which is otherwise kept byte for byte (R06).
func (u *Upstream) uploadURL(target, digest string) (*url.URL, error) {
	var to *url.URL
	if strings.HasPrefix(target, "/") {
		to = u.at(target)
	} else {
		var err error
		if to, err = url.Parse(target); err != nil || !wholesome(to) {
			return nil, unknownUpload()
		}
	}
	if digest != "" {
		if to.RawQuery != "" {
			to.RawQuery += "&"
		}
		to.RawQuery += "digest=" + url.QueryEscape(digest)
	}
	return to, nil
}
