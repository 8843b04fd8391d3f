package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regward/regward/auth"
)

// idCard signs certificates for clients; the clock of gates is what it goes by.
type idCard struct {
	testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
	now  time.Time
}

func newIDCard(t testing.TB, name string) *idCard {
	t.Helper()
	ca := &idCard{TB: t, now: newClock().Now()}
	ca.cert, ca.key = ca.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	})
	return ca
}

func (ca *idCard) sign(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	ca.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.Fatal(err)
	}
	ca.next++
	c.SerialNumber, c.NotBefore = big.NewInt(ca.next), ca.now.AddDate(-1, 0, 0)
	if c.NotAfter.IsZero() {
		c.NotAfter = ca.now.AddDate(1, 0, 0)
	}
	parent, by := ca.cert, ca.key
	if parent == nil {
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		ca.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		ca.Fatal(err)
	}
	return cert, key
}

// of is somebody's certificate.
func (ca *idCard) of(name string, change ...func(*x509.Certificate)) tls.Certificate {
	ca.Helper()
	c := &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, f := range change {
		f(c)
	}
	cert, key := ca.sign(c)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// certificates are those of ca but the revoked ones.
func (ca *idCard) certificates(o auth.CertificateOptions, revoked ...tls.Certificate) *auth.Certificates {
	ca.Helper()
	c, err := auth.ParseCertificates(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}), o)
	if err != nil {
		ca.Fatal(err)
	}
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: ca.now, NextUpdate: ca.now.AddDate(0, 0, 1)}
	for _, one := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: one.Leaf.SerialNumber, RevocationTime: ca.now})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, ca.cert, ca.key)
	if err != nil {
		ca.Fatal(err)
	}
	if c, err = c.Revoking(der); err != nil {
		ca.Fatal(err)
	}
	return c
}

// believes makes settings take certificates of ca.
func (ca *idCard) believes(s *Settings) { s.Certificates = ca.certificates(auth.CertificateOptions{}) }

// newCertGate is a gate whose listener asks for certificates, as cmd/regward's.
func newCertGate(t testing.TB, text string, change ...func(*Settings)) *gate {
	t.Helper()
	g := newGate(t, text, change...)
	g.srv.TLS.ClientAuth = tls.RequestClientCert
	return g
}

// showing are clients with a certificate, and a count of their connections.
func (g *gate) showing(cert tls.Certificate) (h1, h2 *http.Client) {
	h1, h2 = g.client(false), g.client(true)
	for _, c := range []*http.Client{h1, h2} {
		c.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{cert}
		g.Cleanup(c.CloseIdleConnections)
	}
	return h1, h2
}

func (g *gate) bothShowing(cert tls.Certificate, f func(c *http.Client, version string)) {
	h1, h2 := g.showing(cert)
	f(h1, "HTTP/1.1")
	f(h2, "HTTP/2.0")
}

func (g *gate) tokenBy(c *http.Client, scopes ...string) (reply, string) {
	g.Helper()
	a := g.with(c, "GET", "/token?"+url.Values{"service": {gateHost}, "scope": scopes}.Encode())
	if a.StatusCode != 200 {
		return a, ""
	}
	return a, a.token(g).Token
}

func TestX05_ACertificateLogsIn(t *testing.T) {
	ca := newIDCard(t, "people")
	g := newCertGate(t, usual, ca.believes)
	g.bothShowing(ca.of("ann"), func(c *http.Client, version string) {
		// The ping is challenged all the same: a login must not be withheld (C01).
		a := g.with(c, "GET", "/v2/").want(t, 401)
		if a.challenged(t)["realm"] == "" || a.Proto != version {
			t.Errorf("%s %s", a.Proto, a.Header)
		}
		a, token := g.tokenBy(c, deletes("coolteam/app"))
		if a.StatusCode != 200 {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
		// The token is ann's, with or without the certificate.
		g.get("/v2/coolteam/app/manifests/latest", bearer(token)).want(t, 200)
		g.get("/v2/", bearer(token)).want(t, 200)
		// So is a request without one.
		g.with(c, "GET", "/v2/coolteam/app/manifests/latest").want(t, 200)
		g.with(c, "POST", "/v2/coolteam/app/blobs/uploads/").want(t, 202)
		// What ann may not, somebody else may: the challenge lets a login be tried, and names no error (C11).
		a = g.with(c, "GET", "/v2/shared/base/manifests/latest").want(t, 401)
		wantMembers(t, a.challenged(t), "realm", "https://"+gateHost+"/token", "service", gateHost, "scope", pulls("shared/base"))
		// The login decides where one comes.
		g.with(c, "GET", "/v2/shared/base/manifests/latest", who("bob")).want(t, 200)
		g.with(c, "GET", "/v2/coolteam/app/manifests/latest", who("bob")).want(t, 401)
		g.with(c, "GET", "/token", basic("ann", "wrong")).want(t, 401)
		token = g.tokenFor([]option{who("bob")}, pulls("shared/base"))
		g.with(c, "GET", "/v2/shared/base/manifests/latest", bearer(token)).want(t, 200)
		// And so does a token, an anonymous one too.
		g.with(c, "GET", "/v2/coolteam/app/manifests/latest", g.as("", pulls("coolteam/app"))).want(t, 401)
	})
	var logins, direct int
	for _, line := range g.audit.all(t) {
		if line["msg"] == "login" && line["via"] == "certificate" && line["user"] == "ann" {
			logins++
		}
	}
	for _, line := range g.access.all(t) {
		if line["credential"] == "certificate" && line["user"] == "ann" && line["via"] == "certificate" {
			direct++
		}
	}
	if logins != 2 || direct < 8 { // once for a connection
		t.Errorf("%d logins, %d requests by certificate", logins, direct)
	}
}

func TestX05_ABadCertificateIsRefusedInWords(t *testing.T) {
	ca, foreign := newIDCard(t, "people"), newIDCard(t, "strangers")
	gone := ca.of("carl")
	g := newCertGate(t, usual, func(s *Settings) { s.Certificates = ca.certificates(auth.CertificateOptions{}, gone) })
	expired := ca.of("ann", func(c *x509.Certificate) { c.NotAfter = ca.now.Add(-time.Hour) })
	for words, cert := range map[string]tls.Certificate{
		`the client certificate of \"ann\" expired on 2026-11-20 14:37 UTC; ask for a new one. Or: docker login ` + gateHost: expired,
		`of \"carl\" (serial 2) has been revoked`:                           gone,
		`of \"ann\" is by \"CN=strangers\", which is no CA for logins here`: foreign.of("ann"),
		`the client certificate names no user: its common name is empty`:    ca.of(""),
		`is for \"anonymous\", which is what rules and logs call`:           ca.of("anonymous"),
		`of \"bob\" is not made for clients: its extended key usage`: ca.of("bob", func(c *x509.Certificate) {
			c.ExtKeyUsage = nil
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}),
	} {
		g.bothShowing(cert, func(c *http.Client, version string) {
			g.with(c, "GET", "/v2/").want(t, 401)
			a, _ := g.tokenBy(c, pulls("library/alpine"))
			if a.StatusCode != 401 || !strings.Contains(string(a.body), words) || !strings.Contains(string(a.body), contact) {
				t.Errorf("%s: token: %d %s", version, a.StatusCode, a.body)
			}
			a = g.with(c, "GET", "/v2/coolteam/app/manifests/latest").want(t, 401)
			if !strings.Contains(string(a.body), words) {
				t.Errorf("%s: %s", version, a.body)
			}
			wantMembers(t, a.challenged(t), "realm", "https://"+gateHost+"/token", "service", gateHost, "scope", pulls("coolteam/app"))
			// Many show whatever they have: a good login is one.
			g.with(c, "GET", "/token", who("ann")).want(t, 200)
			g.with(c, "GET", "/v2/coolteam/app/manifests/latest", who("ann")).want(t, 200)
			g.with(c, "GET", "/v2/library/alpine/manifests/latest", g.as("", pulls("library/alpine"))).want(t, 200)
		})
	}
	failed := 0
	for _, line := range g.audit.all(t) {
		if line["msg"] == "login_failed" {
			if failed++; line["reason"] != "bad_certificate" {
				t.Error(line)
			}
		}
	}
	if failed != 12 { // once for a connection
		t.Errorf("%d audit lines", failed)
	}
	if !strings.Contains(g.access.String(), `"credential":"bad certificate: carl"`) || !strings.Contains(g.access.String(), `"reason":"bad_certificate"`) {
		t.Error("no access line says so")
	}
}

// Certificates cannot be guessed, so a thousand bad ones lock nobody out.
func TestABadCertificateLocksNobodyOut(t *testing.T) {
	ca := newIDCard(t, "people")
	g := newCertGate(t, usual+"\nlimit failed_logins failed_logins 2/15m per=ip+user\nlimit all failed_logins 3/15m per=ip", ca.believes)
	c, _ := g.showing(newIDCard(t, "strangers").of("ann"))
	for range 20 {
		g.with(c, "GET", "/v2/library/alpine/manifests/latest").want(t, 401)
	}
	g.get("/token", who("ann")).want(t, 200)
	g.get("/token", basic("bob", "wrong")).want(t, 401)
}

// K4: a token ends with what proved it, on the next request; so does the
// connection's own word.
func TestAReloadEndsWhatACertificateProved(t *testing.T) {
	ca, other := newIDCard(t, "people"), newIDCard(t, "robots")
	ann, bob := ca.of("ann"), ca.of("bob")
	g := newCertGate(t, usual, ca.believes)
	c, _ := g.showing(ann)
	_, token := g.tokenBy(c, pulls("coolteam/app"))
	const target = "/v2/coolteam/app/manifests/latest"
	check := func(status int) {
		t.Helper()
		a := g.get(target, bearer(token)).want(t, status)
		if status == 401 && a.challenged(t)["error"] != "invalid_token" {
			t.Errorf("%s", a.Header)
		}
		g.with(c, "GET", target).want(t, status)
	}
	swap := func(certs *auth.Certificates) {
		s := g.settings
		s.Certificates = certs
		g.swap(s)
	}
	check(200)
	swap(ca.certificates(auth.CertificateOptions{}, bob))
	check(200)
	swap(ca.certificates(auth.CertificateOptions{}, bob, ann))
	check(401)
	if a, _ := g.tokenBy(c); a.StatusCode != 401 || !strings.Contains(string(a.body), "has been revoked") {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	swap(ca.certificates(auth.CertificateOptions{}))
	check(200)
	swap(other.certificates(auth.CertificateOptions{}))
	check(401)
	swap(nil)
	g.get(target, bearer(token)).want(t, 401)
	swap(ca.certificates(auth.CertificateOptions{CaseSensitive: true}))
	g.get(target, bearer(token)).want(t, 401)
}

func TestARevocationOfTheUserEndsTokensByCertificate(t *testing.T) {
	ca := newIDCard(t, "people")
	g := newCertGate(t, usual, ca.believes)
	c, _ := g.showing(ca.of("ann"))
	_, token := g.tokenBy(c, pulls("coolteam/app"))
	const target = "/v2/coolteam/app/manifests/latest"
	g.get(target, bearer(token)).want(t, 200)
	now := g.clock.Now()
	g.Cache.Revoke(auth.Revocation{User: "ann", At: now, Until: now.Add(time.Hour)})
	g.get(target, bearer(token)).want(t, 401)
	// Whoever can still log in may do so again at once.
	_, token = g.tokenBy(c, pulls("coolteam/app"))
	g.get(target, bearer(token)).want(t, 200)
}

func TestATokenDoesNotOutliveItsCertificate(t *testing.T) {
	ca := newIDCard(t, "people")
	g := newCertGate(t, usual, ca.believes)
	for left, want := range map[time.Duration]int{2 * time.Minute: 120, 10 * time.Second: 60, time.Hour: 300} {
		c, _ := g.showing(ca.of("ann", func(c *x509.Certificate) { c.NotAfter = ca.now.Add(left) }))
		a, _ := g.tokenBy(c)
		if got := fmt.Sprint(a.token(g).ExpiresIn); got != fmt.Sprint(want) {
			t.Errorf("%v left: expires_in %s", left, got)
		}
	}
	c, _ := g.showing(ca.of("ann", func(c *x509.Certificate) { c.NotAfter = ca.now.Add(2 * time.Hour) }))
	g.with(c, "GET", "/v2/coolteam/app/manifests/latest").want(t, 200)
	g.clock.pass(3 * time.Hour) // the connection is still the same
	if a := g.with(c, "GET", "/v2/coolteam/app/manifests/latest").want(t, 401); !strings.Contains(string(a.body), "expired on") {
		t.Errorf("%s", a.body)
	}
}

func TestARuleCanNameASPIFFEID(t *testing.T) {
	ca := newIDCard(t, "workloads")
	const id = "spiffe://acme.example/ns/ci/sa/builder"
	g := newCertGate(t, "allow user:"+id+" builds/** pull\nallow everyone {user}/** push,pull\nallow group:ci shared/base pull", func(s *Settings) {
		s.Certificates = ca.certificates(auth.CertificateOptions{User: auth.ByURI})
		s.Groups = map[string][]string{id: {"ci"}}
		s.Upstreams[0].AssertUser = "X-Remote-User"
	})
	u, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := g.showing(ca.of("x", func(c *x509.Certificate) { c.URIs = []*url.URL{u} }))
	g.with(c, "GET", "/v2/builds/app/manifests/latest").want(t, 200)
	if got := g.up.one(t).Header.Get("X-Remote-User"); got != id {
		t.Errorf("the upstream was told %q", got)
	}
	g.with(c, "GET", "/v2/shared/base/manifests/latest").want(t, 200)
	_, token := g.tokenBy(c, pulls("builds/app"))
	g.get("/v2/builds/app/manifests/latest", bearer(token)).want(t, 200)
	for _, name := range []string{"spiffe/app", "acme.example/ns", "ns/ci", "x/app"} {
		g.with(c, "GET", "/v2/"+name+"/manifests/latest").want(t, 401)
	}
}

// An upstream that checks its own people's logins knows no certificates: there
// they are as if nobody had shown them.
func TestACertificateIsNobodyAtAnUpstreamInPassthrough(t *testing.T) {
	ca := newIDCard(t, "people")
	g := newCertGate(t, "allow everyone ** pull", func(s *Settings) {
		ca.believes(s)
		s.Upstreams[0].Passthrough = true
		s.Logins, s.Current = nil, nil
	})
	c, _ := g.showing(ca.of("ann"))
	g.with(c, "GET", "/v2/coolteam/app/manifests/latest").want(t, 401)
	if strings.Contains(g.access.String(), `"user":"ann"`) {
		t.Error("ann was taken for one of the upstream's")
	}
}

// A browser shows a certificate for any page that asks: what nobody typed there
// counts only for pages that are listed.
func TestAPageOfAnotherOriginDoesNothingByCertificate(t *testing.T) {
	ca := newIDCard(t, "people")
	g := newCertGate(t, usual, ca.believes, func(s *Settings) { s.Origins = []string{"https://ui.acme.example"} })
	c, _ := g.showing(ca.of("ann"))
	const start = "/v2/coolteam/app/blobs/uploads/"
	cross := header("Sec-Fetch-Site", "cross-site")
	g.with(c, "POST", start).want(t, 202)
	g.with(c, "POST", start, header("Origin", "https://ui.acme.example"), cross).want(t, 202)
	g.with(c, "POST", start, header("Origin", "https://evil.example"), cross).want(t, 401)
	g.with(c, "POST", start, header("Origin", "https://evil.example")).want(t, 401)
	g.with(c, "POST", start, header("Origin", "null"), cross).want(t, 401)
	g.with(c, "POST", start, header("Origin", "https://evil.example"), cross, g.as("ann", pushes("coolteam/app"))).want(t, 202)
	const read = "/v2/coolteam/app/tags/list" // an image or a script of a page is asked for without Origin
	g.with(c, "GET", read).want(t, 200)
	g.with(c, "GET", read, header("Sec-Fetch-Site", "none")).want(t, 200)
	g.with(c, "GET", read, header("Origin", "https://ui.acme.example"), cross).want(t, 200)
	g.with(c, "GET", read, cross).want(t, 401)
	g.with(c, "GET", read, header("Sec-Fetch-Site", "same-site")).want(t, 401)
}

// What TLS resumes is the certificate, never what it proved.
func TestAResumedSessionProvesNothingByItself(t *testing.T) {
	ca := newIDCard(t, "people")
	ann := ca.of("ann")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		g := newCertGate(t, usual, ca.believes)
		c, _ := g.showing(ann)
		tr := c.Transport.(*http.Transport)
		tr.DisableKeepAlives = true
		tr.TLSClientConfig.MaxVersion = version
		tr.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		var resumed atomic.Bool
		tr.TLSClientConfig.VerifyConnection = func(s tls.ConnectionState) error {
			resumed.Store(s.DidResume)
			return nil
		}
		const target = "/v2/coolteam/app/manifests/latest"
		g.with(c, "GET", target).want(t, 200)
		g.with(c, "GET", target).want(t, 200)
		if !resumed.Load() {
			t.Errorf("%x: nothing was resumed", version)
		}
		s := g.settings
		s.Certificates = ca.certificates(auth.CertificateOptions{}, ann)
		g.swap(s)
		g.with(c, "GET", target).want(t, 401)
		if !resumed.Load() {
			t.Errorf("%x: the refused one was not resumed", version)
		}
	}
}

func TestWithoutClientCAsACertificateIsNothing(t *testing.T) {
	ca := newIDCard(t, "people")
	g := newCertGate(t, usual)
	c, _ := g.showing(ca.of("ann"))
	a := g.with(c, "GET", "/v2/coolteam/app/manifests/latest").want(t, 401)
	if !strings.Contains(string(a.body), "authentication required") {
		t.Errorf("%s", a.body)
	}
	if a, _ := g.tokenBy(c); a.StatusCode != 200 {
		t.Errorf("%d", a.StatusCode)
	}
}

// What a certificate proves is found out once for a connection; that it proves
// nobody, once in a while.
func TestACertificateIsLookedAtOnce(t *testing.T) {
	ca := newIDCard(t, "people")
	g := newCertGate(t, usual, ca.believes)
	good, _ := g.showing(ca.of("ann"))
	bad, _ := g.showing(newIDCard(t, "strangers").of("ann"))
	told := func() (n int) {
		for _, line := range g.audit.all(t) {
			if line["msg"] == "login" || line["msg"] == "login_failed" {
				n++
			}
		}
		return n
	}
	const target = "/v2/coolteam/app/manifests/latest"
	for i, want := range []int{2, 2, 3, 3} { // good and bad, nothing, bad, nothing
		if i == 2 {
			g.clock.pass(recheck)
		}
		g.with(good, "GET", target).want(t, 200)
		g.with(bad, "GET", target).want(t, 401)
		if n := told(); n != want {
			t.Errorf("look %d: %d lines", i, n)
		}
	}
}

// Streams of one connection that come at once wait for one look: who sends a
// hundred of them with a chain that takes long pays for one.
func TestStreamsAtOnceShareALook(t *testing.T) {
	ca := newIDCard(t, "people")
	g := newCertGate(t, usual, ca.believes)
	_, conn := net.Pipe()
	x := &exchange{h: g.Handler, s: g.Current(), r: httptest.NewRequest("GET", "https://localhost/v2/", nil)}
	x.r = x.r.WithContext(WithConn(x.r.Context(), conn))
	x.r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{newIDCard(t, "strangers").of("ann").Leaf}}
	looks := make([]*shown, 32)
	var all sync.WaitGroup
	for i := range looks {
		all.Go(func() { looks[i] = (&exchange{h: x.h, s: x.s, r: x.r}).proven() })
	}
	all.Wait()
	for _, one := range looks {
		if one != looks[0] {
			t.Fatal("a certificate was looked at twice")
		}
	}
}

// A page that somebody pushed is never one of this host where a browser's
// certificate would give it the reader's rights.
func TestAnImageIsNoPageToABrowserWithACertificate(t *testing.T) {
	ca := newIDCard(t, "people")
	g := newCertGate(t, usual, ca.believes)
	g.passing("Content-Type", "text/html")
	c, _ := g.showing(ca.of("ann"))
	a := g.with(c, "GET", "/v2/coolteam/app/manifests/latest").want(t, 200)
	if got := a.Header["Content-Security-Policy"]; len(got) != 1 || got[0] != "sandbox" {
		t.Errorf("Content-Security-Policy: %q", got)
	}
	if got := a.Header["X-Content-Type-Options"]; len(got) != 1 || got[0] != "nosniff" {
		t.Errorf("X-Content-Type-Options: %q", got)
	}
}
