package doctor

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

const (
	maxBody    = 256 << 10 // of an answer
	maxHeaders = 64 << 10
)

// network is how requests go out: one way to the registry, where a
// certificate that is wrong has been told already, and a strict one to all
// other hosts.
type network struct {
	own, other *http.Transport
}

func (e *examination) newNetwork() *network {
	base := http.Transport{
		DialContext:            e.dial,
		MaxResponseHeaderBytes: maxHeaders,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    1,
		TLSHandshakeTimeout:    e.o.Step,
		ExpectContinueTimeout:  e.o.Step,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1, as docker
	}
	if e.via != nil {
		base.Proxy = http.ProxyURL(e.via)
	}
	other := base.Clone()
	other.TLSClientConfig = e.strict()
	own := base.Clone()
	own.TLSClientConfig = e.strict()
	return &network{own: own, other: other}
}

func (e *examination) strict() *tls.Config {
	return &tls.Config{RootCAs: e.pool(), Time: e.o.Now}
}

// trustNobody is for looking further at a registry whose certificate is wrong.
func (n *network) trustNobody() {
	n.own.TLSClientConfig.InsecureSkipVerify = true
}

func (n *network) close() {
	n.own.CloseIdleConnections()
	n.other.CloseIdleConnections()
}

// pool is the system's CAs and those of the options.
func (e *examination) pool() *x509.CertPool {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, c := range e.o.CA {
		pool.AddCert(c)
	}
	return pool
}

// dial goes to an address that answered, if it is the registry's.
func (e *examination) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, e.o.Step)
	defer cancel()
	var d net.Dialer
	if address != e.at.Address() || e.via != nil {
		return d.DialContext(ctx, network, address)
	}
	var errs []error
	for _, a := range e.addrs {
		c, err := d.DialContext(ctx, network, net.JoinHostPort(a.String(), e.at.Port))
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// tunnel is a connection to the registry, through the proxy if there is one.
func (e *examination) tunnel(ctx context.Context) (net.Conn, error) {
	if e.via == nil {
		return e.dial(ctx, "tcp", e.at.Address())
	}
	if e.via.Scheme != "http" {
		return nil, errOtherProxy
	}
	c, err := e.dial(ctx, "tcp", net.JoinHostPort(e.via.Hostname(), proxyPort(e.via)))
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	auth := ""
	if u := e.via.User; u != nil {
		password, _ := u.Password()
		auth = "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)) + "\r\n"
	}
	if _, err := fmt.Fprintf(c, "CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\n%[2]s\r\n", e.at.Address(), auth); err != nil {
		c.Close()
		return nil, err
	}
	// One byte at a time: what follows the answer is the registry's.
	res, err := http.ReadResponse(bufio.NewReaderSize(io.LimitReader(oneByOne{c}, maxHeaders), 16), &http.Request{Method: http.MethodConnect})
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("the proxy's answer to CONNECT: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		c.Close()
		return nil, proxyRefusal(res.Status)
	}
	return c, nil
}

// errOtherProxy is a proxy that the standard library alone can speak to.
var errOtherProxy = errors.New("the certificate cannot be looked at through this kind of proxy")

// proxyRefusal is a proxy's status for CONNECT.
type proxyRefusal string

func (p proxyRefusal) Error() string { return "the proxy answers " + string(p) }

type oneByOne struct{ net.Conn }

func (o oneByOne) Read(b []byte) (int, error) {
	if len(b) > 1 {
		b = b[:1]
	}
	return o.Conn.Read(b)
}

// reply is an answer that was read to its end, or as far as it is looked at.
type reply struct {
	status int
	header http.Header
	body   []byte
	url    *url.URL
}

// is reports whether the status is one of these.
func (r reply) is(statuses ...int) bool {
	for _, s := range statuses {
		if r.status == s {
			return true
		}
	}
	return false
}

// ask makes one request and follows no redirect. A URL that is the registry's
// goes over its connection, every other over a verified one.
func (e *examination) ask(ctx context.Context, method string, u *url.URL, header http.Header, body io.Reader) (reply, error) {
	limit := e.o.Step
	if body != nil {
		limit = e.o.Transfer
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return reply{}, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", "regward-doctor")
	transport := e.net.other
	if e.at.same(u) {
		transport = e.net.own
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	content, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil && len(content) == 0 {
		err = fmt.Errorf("the answer breaks off: %w", err)
	} else {
		err = nil
	}
	e.noteRates(res.Header)
	return reply{status: res.StatusCode, header: res.Header, body: content, url: u}, err
}

// url is a place at the registry; path begins with /v2/.
func (e *examination) url(path string) *url.URL {
	u, err := url.Parse(e.at.Scheme + "://" + e.at.Address() + e.at.Path + path)
	if err != nil { // the path is made of checked parts
		return &url.URL{Scheme: e.at.Scheme, Host: e.at.Address(), Path: path}
	}
	if e.at.Port == defaultPort(e.at.Scheme) {
		u.Host = e.at.Host()
	}
	return u
}

// credentials are what a request of whoever logged in carries.
func (e *examination) credentials() http.Header {
	h := http.Header{}
	switch {
	case e.token != "":
		h.Set("Authorization", "Bearer "+e.token)
	case e.basic:
		h.Set("Authorization", e.basicAuth())
	}
	return h
}

func (e *examination) basicAuth() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(e.o.User+":"+e.o.Password))
}

// said is what an answer says for people.
func (e *examination) said(r reply) string {
	text := strings.TrimSpace(string(bytes.ToValidUTF8(r.body, nil)))
	if text == "" || strings.HasPrefix(text, "<") {
		return fmt.Sprint(r.status)
	}
	return fmt.Sprintf("%d %s", r.status, e.quote(text))
}
