package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"
)

// UpstreamOptions are what an Upstream needs from the process. All may be left
// zero.
type UpstreamOptions struct {
	Log     *zap.Logger
	Now     func() time.Time
	Dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)

	notes *notes
}

// Upstream is one registry behind the gate. It belongs to the process, with
// its connections and tokens, and is made anew when its settings change.
type Upstream struct {
	UpstreamOptions
	settings     UpstreamSettings
	scheme       string // http or https
	host         string // what Host says: name, and port where the URL has one
	hostname     string // lower case, without port
	port         string // always there
	prefix       string // the URL's own path, escaped, without a slash at its end
	hop          hop
	own          *http.Transport // the upstream's hostname, off the fast path
	foreign      *http.Transport // storage behind redirects; looks at addresses
	tokenService *http.Transport // token_hosts: the operator wrote them down, so their addresses are not looked at
	login        *login
	asked        *loginMemory // about people's logins
	relay        *relay       // of people's logins, in passthrough
	blobs        *knownBlobs  // which belong where (shared_blobs)
	names        *addressBook
	state        condition
}

// NewUpstream checks the settings and opens nothing.
func NewUpstream(s UpstreamSettings, o UpstreamOptions) (*Upstream, error) {
	if s.URL == nil || s.URL.Hostname() == "" || (s.URL.Scheme != "http" && s.URL.Scheme != "https") {
		return nil, errors.New("upstream: url must be http:// or https:// and name a host")
	}
	if _, rest := cutToken(s.AssertUser); rest != "" {
		return nil, fmt.Errorf("upstream: assert_user: %q is no header name", s.AssertUser)
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	if o.Resolve == nil {
		o.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return new(net.Resolver).LookupNetIP(ctx, "ip", host)
		}
	}
	s.ConnectTimeout = orElse(s.ConnectTimeout, 5*time.Second)
	s.HeaderTimeout = orElse(s.HeaderTimeout, time.Minute)
	s.IdleTimeout = orElse(s.IdleTimeout, 2*time.Minute)

	u := &Upstream{
		UpstreamOptions: o,
		settings:        s,
		scheme:          s.URL.Scheme,
		host:            s.URL.Host,
		hostname:        strings.ToLower(s.URL.Hostname()),
		port:            portOf(s.URL),
		prefix:          strings.TrimRight(s.URL.EscapedPath(), "/"),
	}
	ours, others, err := clientTLS(s)
	if err != nil {
		return nil, fmt.Errorf("upstream %s: %w", s.Name, err)
	}
	u.names = newAddressBook(u)
	u.own = u.transport(ours, u.connect)
	u.foreign = u.transport(others, u.connectForeign)
	u.tokenService = u.transport(others.Clone(), u.connect)
	u.hop = newWire(u, ours)
	u.login = newLogin(u)
	u.blobs = newKnownBlobs()
	u.asked = newLoginMemory(u)
	u.relay = &relay{u: u}
	return u, nil
}

func orElse(d, other time.Duration) time.Duration {
	if d <= 0 {
		return other
	}
	return d
}

// clientTLS makes the settings of TLS towards the upstream itself and towards
// everybody else: only the upstream sees the client certificate, and a CA of
// the file's own is the only one that counts there.
func clientTLS(s UpstreamSettings) (ours, others *tls.Config, err error) {
	ours = &tls.Config{
		MinVersion:                  tls.VersionTLS12,
		NextProtos:                  []string{"http/1.1"},
		ClientSessionCache:          tls.NewLRUClientSessionCache(64),
		DynamicRecordSizingDisabled: true, // full records from the first byte
	}
	others = ours.Clone()
	others.ClientSessionCache = tls.NewLRUClientSessionCache(64)
	if len(s.CA) > 0 {
		ours.RootCAs = x509.NewCertPool()
		if !ours.RootCAs.AppendCertsFromPEM(s.CA) {
			return nil, nil, errors.New("ca_file holds no certificate")
		}
		if others.RootCAs, err = x509.SystemCertPool(); err != nil {
			others.RootCAs = x509.NewCertPool()
		}
		others.RootCAs.AppendCertsFromPEM(s.CA)
	}
	if len(s.ClientCert) > 0 {
		pair, err := tls.X509KeyPair(s.ClientCert, s.ClientKey)
		if err != nil {
			return nil, nil, fmt.Errorf("client certificate: %w", err)
		}
		ours.Certificates = []tls.Certificate{pair}
	}
	return ours, others, nil
}

// transport is net/http's, for all that is not the fast path: token services,
// storage behind redirects. No proxy of the environment, no HTTP/2, no decoding.
func (u *Upstream) transport(config *tls.Config, dial func(context.Context, string, string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		DialContext:            dial,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    u.settings.ConnectTimeout,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{},
		DisableCompression:     true,
		MaxIdleConnsPerHost:    64,
		MaxIdleConns:           256,
		IdleConnTimeout:        time.Minute,
		ResponseHeaderTimeout:  u.settings.HeaderTimeout,
		MaxResponseHeaderBytes: maxHead,
		WriteBufferSize:        64 << 10,
		ReadBufferSize:         64 << 10,
	}
}

// connect reaches the upstream itself, wherever it is.
func (u *Upstream) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, u.settings.ConnectTimeout)
	defer cancel()
	return u.Dial(ctx, network, addr)
}

// Close drops the idle connections. Transfers under way go on.
func (u *Upstream) Close() {
	u.hop.close()
	u.own.CloseIdleConnections()
	u.foreign.CloseIdleConnections()
	u.tokenService.CloseIdleConnections()
}

// Refused says in words that the upstream turns our own login down, and is
// empty while it does not (S11).
func (u *Upstream) Refused() string { return u.login.refused() }

// outgoing is what goes to the upstream, built from parsed parts only (K1).
type outgoing struct {
	Method   string
	Path     string      // "/v2/...", in upstream names, escaped; what the upstream's URL has in front is added
	RawQuery string      // with Path
	URL      *url.URL    // instead of Path: where an upload goes on, as uploadURL made it (R05)
	Header   http.Header // as requestHeader made it

	Body   io.Reader // nil: none
	Length int64     // of Body; -1: not known, sent in chunks (H02)

	Scope     string   // of the upstream's token: repository:NAME:pull[,push], registry:catalog:*; several with spaces between
	Blob      bool     // a GET or HEAD of a blob: redirects may be passed (R18)
	Final     bool     // the PUT that ends an upload: its answer may take ten minutes
	Hostnames []string // regward's own, for R20

	// Credential is the value of Authorization where the client's own login goes
	// on (passthrough); "" is regward's own. It goes to the upstream and nowhere else.
	Credential string
	TurnedAway func(status int, header http.Header) error // what a 401 or 403 to it becomes, or the 429 of who has locked it
	Mount      bool                                       // Path with RawQuery is a mount, and without a plain upload

	RequestID, TraceParent string
	User                   string // for assert_user; "" is anonymous
}

// finalTimeout is for registries that assemble or copy the blob before they
// answer the last PUT.
const finalTimeout = 10 * time.Minute

// bodyless reports whether the request can be sent a second time.
func (out *outgoing) bodyless() bool { return out.Body == nil || out.Length == 0 }

// do asks the upstream. Errors are *httpError: 502 unreachable or broken, 504
// too slow (S10), 404 and 403 where it turns our own credential down (S11). An answer
// is never 401, and a redirect only where it may be passed on as it is: then its
// Location is absolute and checked (R18, R20). The caller closes the body, whose
// reads end in io.EOF only if all of it has come (H12). Where the answer has
// a Location, Request.URL is what resolveLocation wants.
func (u *Upstream) do(ctx context.Context, out *outgoing) (*http.Response, error) {
	req, at, err := u.request(out)
	if err != nil {
		return nil, err
	}
	var resp *http.Response
	if at == nil || u.sameOrigin(at) {
		resp, err = u.send(ctx, out, req)
	} else {
		resp, err = u.visit(ctx, out, at)
	}
	if err != nil {
		return nil, u.failed(ctx, err)
	}
	if redirects(resp.StatusCode) {
		if at == nil {
			at = u.at(req.target)
		}
		if resp, err = u.redirected(ctx, out, at, resp); err != nil {
			return nil, u.failed(ctx, err)
		}
		return resp, nil
	}
	if resp.Request == nil && len(resp.Header["Location"]) > 0 {
		if at == nil {
			at = u.at(req.target)
		}
		resp.Request = &http.Request{Method: out.Method, URL: at}
	}
	return resp, nil
}

// request is out as the hop wants it, and where it goes if that is an upload's
// own URL.
func (u *Upstream) request(out *outgoing) (*hopRequest, *url.URL, error) {
	req := &hopRequest{
		method:        out.Method,
		host:          u.host,
		header:        out.Header,
		body:          out.Body,
		length:        out.Length,
		headerTimeout: u.settings.HeaderTimeout,
	}
	if out.bodyless() {
		req.body, req.length = nil, 0
	}
	if out.Final {
		req.headerTimeout = max(finalTimeout, req.headerTimeout)
	}
	req.set("X-Forwarded-Proto", u.scheme)
	req.set("X-Request-Id", out.RequestID)
	req.set("Traceparent", out.TraceParent)
	if u.settings.AssertUser != "" {
		req.set(http.CanonicalHeaderKey(u.settings.AssertUser), out.User)
	}
	if out.URL == nil {
		req.target = u.prefix + out.Path
		if out.RawQuery != "" {
			req.target += "?" + out.RawQuery
		}
		return req, nil, nil
	}
	if !u.ownHost(out.URL) && !u.listed(out.URL) {
		return nil, nil, broken(fmt.Errorf("upload location on host %q: not the upstream's and not in redirect_hosts", out.URL.Host))
	}
	req.target = out.URL.RequestURI()
	return req, out.URL, nil
}

// at is the URL of a request target of ours.
func (u *Upstream) at(target string) *url.URL {
	path, query, _ := strings.Cut(target, "?")
	at := &url.URL{Scheme: u.scheme, Host: u.host, RawQuery: query}
	at.Path, _ = url.PathUnescape(path)
	at.RawPath = path
	return at
}

// ownHost reports whether v is on the upstream's own host, on any port.
func (u *Upstream) ownHost(v *url.URL) bool { return strings.EqualFold(v.Hostname(), u.hostname) }

// sameOrigin reports whether v is where our credential belongs.
func (u *Upstream) sameOrigin(v *url.URL) bool {
	return v.Scheme == u.scheme && u.ownHost(v) && portOf(v) == u.port
}

// listed reports whether redirect_hosts has the host of v.
func (u *Upstream) listed(v *url.URL) bool { return hostIn(u.settings.RedirectHosts, v) }

// hostIn reports whether a list of host or host:port has the host of v; an
// entry without a port means any port.
func hostIn(list []string, v *url.URL) bool { return hostPortIn(list, v.Hostname(), portOf(v)) }

func hostPortIn(list []string, name, port string) bool {
	for _, entry := range list {
		host, p, err := net.SplitHostPort(entry)
		if err != nil {
			host, p = strings.Trim(entry, "[]"), port
		}
		if strings.EqualFold(host, name) && p == port {
			return true
		}
	}
	return false
}

func portOf(v *url.URL) string {
	if p := v.Port(); p != "" {
		return p
	}
	if v.Scheme == "http" {
		return "80"
	}
	return "443"
}

// errClientBody wraps what reading the client's body gave.
type errClientBody struct{ err error }

func (e errClientBody) Error() string { return "request body: " + e.err.Error() }
func (e errClientBody) Unwrap() error { return e.err }

// failed turns what went wrong on the way into an answer (S10).
func (u *Upstream) failed(ctx context.Context, err error) error {
	var ours *httpError
	var body errClientBody
	var large *http.MaxBytesError
	var timeout net.Error
	switch {
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &large):
		return refuse(http.StatusRequestEntityTooLarge, "SIZE_INVALID", "the body is too large").from(err)
	case errors.As(err, &body), ctx.Err() != nil:
		return refuse(http.StatusBadRequest, "UNKNOWN", "the request was not sent to its end").from(err)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return refuse(http.StatusGatewayTimeout, "UNAVAILABLE", "the registry behind this one does not answer in time; try again later").from(err)
	}
	return broken(u.inWords(err))
}

// broken is an upstream that cannot be reached or does not make sense.
func broken(cause error) *httpError {
	return refuse(http.StatusBadGateway, "UNAVAILABLE", "the registry behind this one cannot be reached or answers wrongly; try again later").from(cause)
}

// maxDrop is how much of an unwanted body is read to keep its connection.
const maxDrop = 64 << 10

// drop ends an answer nobody wants.
func drop(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrop)
	_ = resp.Body.Close()
}
