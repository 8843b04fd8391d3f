package doctor_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/regward/regward/doctor"
)

func examine(t testing.TB, f *fake) doctor.Report {
	t.Helper()
	return doctor.Run(t.Context(), f.start(t))
}

func TestAHealthyRegistryHasNoProblem(t *testing.T) {
	f := newFake()
	o := f.start(t)
	o.Origin = ""
	r := doctor.Run(t.Context(), o)
	says(t, r, "an upload was started and cancelled; nothing is stored")
	if len(r.Chain) != 2 || r.Host != f.host {
		t.Errorf("host %q, %d certificates; want %s and 2", r.Host, len(r.Chain), f.host)
	}
	for _, check := range []string{"dns", "port", "tls", "chain", "name", "expiry", "ping", "clock", "challenge", "realm", "login", "scope", "location", "body", "upload", "rate"} {
		if !has(r, doctor.OK, check) {
			t.Errorf("%s is not in order:\n%s", check, words(t, r))
		}
	}
	seen := strings.Join(f.requests(), "\n")
	if n := strings.Count(seen, "DELETE /v2/coolteam/app/blobs/uploads/1"); n != 1 {
		t.Errorf("%d cancellations, want 1:\n%s", n, seen)
	}
}

func has(r doctor.Report, l doctor.Level, check string) bool {
	for _, f := range r.Findings {
		if f.Level == l && f.Check == check {
			return true
		}
	}
	return false
}

func untried(r doctor.Report, check string) string {
	for _, u := range r.NotTried {
		if u.Check == check {
			return u.Why
		}
	}
	return ""
}

func answer(status int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Add(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
	}
}

// row breaks one thing.
type row struct {
	name string
	do   func(f *fake)
	text string
	want []string
}

func tryRows(t *testing.T, rows []row) {
	t.Helper()
	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			tt.do(f)
			says(t, examine(t, f), tt.text, tt.want...)
		})
	}
}

func TestCertificatesThatAreWrong(t *testing.T) {
	tryRows(t, []row{
		{"expired", func(f *fake) { f.leaf.NotAfter = f.now.Add(-time.Hour) }, "expired on", []string{"problem expiry"}},
		{"not yet valid", func(f *fake) { f.leaf.NotBefore = f.now.Add(time.Hour) }, "not valid before", []string{"problem expiry"}},
		{"soon", func(f *fake) {
			f.leaf.NotAfter = f.now.Add(5*24*time.Hour + time.Minute)
			f.leaf.NotBefore = f.now.Add(-80 * 24 * time.Hour)
		}, "in 5 days", []string{"warning expiry"}},
		{"another name", func(f *fake) { f.leaf.DNSNames = []string{"other.example"} }, "not for " + host, []string{"problem name"}},
		{"common name only", func(f *fake) { f.leaf.DNSNames, f.leaf.IPAddresses = nil, nil }, "only the common name", []string{"problem name"}},
		{"no intermediate", func(f *fake) { f.sent = []int{0} }, "an intermediate certificate is missing", []string{"problem chain"}},
		{"no intermediate, and where it is", func(f *fake) {
			f.sent, f.leaf.IssuingCertificateURL = []int{0}, []string{"http://ca.example/between.crt"}
		}, "http://ca.example/between.crt", []string{"problem chain"}},
		{"wrong order", func(f *fake) { f.sent = []int{0, 2, 1} }, "wrong order", []string{"warning chain"}},
		{"TLS 1.1", func(f *fake) { f.versions = [2]uint16{tls.VersionTLS10, tls.VersionTLS11} }, "TLS 1.1 at most", []string{"problem tls"}},
		{"client certificate", func(f *fake) { f.clients = tls.RequireAnyClientCert }, "insists on a client certificate", []string{"problem client-certificate"}},
	})
}

// A certificate that cannot be trusted ends nothing but the use of the
// password.
func TestNoPasswordGoesToWhoeverShowsAWrongCertificate(t *testing.T) {
	for name, change := range map[string]func(f *fake, o *doctor.Options){
		"unknown CA": func(_ *fake, o *doctor.Options) { o.CA = nil },
		"expired": func(f *fake, o *doctor.Options) {
			later := f.leaf.NotAfter.Add(time.Hour)
			o.Now = func() time.Time { return later }
		},
		"name": func(f *fake, o *doctor.Options) {
			o.Target.Name = "other.example"
		},
	} {
		f := newFake()
		o := f.start(t)
		change(f, &o)
		r := doctor.Run(t.Context(), o)
		if why := untried(r, "login"); r.Count(doctor.Problem) == 0 || !strings.Contains(why+untried(r, "clock"), "certificate") && why != "" && name != "name" {
			t.Errorf("%s: %d problems, login not tried: %q\n%s", name, r.Count(doctor.Problem), why, words(t, r))
		}
		if !has(r, doctor.OK, "ping") {
			t.Errorf("%s: nothing further was looked at:\n%s", name, words(t, r))
		}
		noPassword(t, f)
	}
}

func noPassword(t testing.TB, f *fake) {
	t.Helper()
	for _, line := range f.requests() {
		if strings.Contains(line, "Basic ") || strings.Contains(line, base64.StdEncoding.EncodeToString([]byte(password))) {
			t.Errorf("the password went out: %s", line)
		}
	}
}

func TestAnUnknownCANamesTheCommandThatHelps(t *testing.T) {
	f := newFake()
	f.sent = []int{0, 1, 2}
	o := f.start(t)
	o.CA = nil
	r := doctor.Run(t.Context(), o)
	says(t, r, "regward trust "+f.host+" --for docker", "problem chain")
	if len(r.Chain) != 3 {
		t.Errorf("%d certificates in the report, want 3", len(r.Chain))
	}
}

func TestChallengesThatAreWrong(t *testing.T) {
	challenge := func(fields ...string) func(f *fake) { return func(f *fake) { f.challenge = fields } }
	bearer := `Bearer realm="https://HOST/token",service="registry"`
	tryRows(t, []row{
		{"C01 open with a login", func(f *fake) { f.ping, f.other = answer(200), answer(404) }, "would never be used", []string{"problem C01"}},
		{"C01 no challenge", challenge(), "401 without WWW-Authenticate", []string{"problem C01"}},
		{"C02 Basic only", func(f *fake) { f.basic, f.challenge = true, []string{`Basic realm="x"`} }, "offers Basic only", []string{"warning C02"}},
		{"C02 both, two fields", challenge(bearer, `Basic realm="x"`), "Bearer and Basic at once", []string{"problem C02"}},
		{"C02 both, one field", challenge(bearer + `, Basic realm="x"`), "Bearer and Basic at once", []string{"problem C02"}},
		{"C02 neither", challenge("Negotiate"), "do not know", []string{"problem C02"}},
		{"C03 not quoted", challenge(`Bearer realm="https://HOST/token",service=registry`), "service is not quoted", []string{"problem C03"}},
		{"C03 a space before a comma", challenge(`Bearer realm="https://HOST/token" ,service="registry"`), "a space before the comma", []string{"problem C03"}},
		{"C03 capitals", challenge(`Bearer Realm="https://HOST/token",service="registry"`), "not in lower case", []string{"problem C03"}},
		{"C03 two spaces", challenge(`Bearer  realm="https://HOST/token",service="registry"`), "not one space", []string{"problem C03"}},
		{"C03 an empty value", challenge(bearer + `,error=""`), "error is empty", []string{"problem C03"}},
		{"C03 an open quote", challenge(`Bearer realm="https://HOST/token",service="registry`), "does not end", []string{"problem C03"}},
		{"C04 two fields", challenge(bearer, bearer), "2 WWW-Authenticate fields", []string{"problem C04"}},
		{"C04 one field", challenge(bearer + `, Negotiate`), "several challenges", []string{"problem C04"}},
		{"C05 http", challenge(`Bearer realm="http://HOST/token",service="registry"`), "X-Forwarded-Proto", []string{"problem C05"}},
		{"C05 relative", challenge(`Bearer realm="/token",service="registry"`), "relative", []string{"problem C05"}},
		{"C05 none", challenge(`Bearer service="registry"`), "no realm", []string{"problem C05"}},
		{"C08 no service", challenge(`Bearer realm="https://HOST/token"`), "no service", []string{"warning C08"}},
		{"C08 empty service", challenge(`Bearer realm="https://HOST/token",service=""`), "empty service", []string{"warning C08"}},
		{"C09 scope", challenge(bearer + `,scope="repository:*:pull"`), "has a scope", []string{"warning C09"}},
		{"C14 a challenge with 200", func(f *fake) { f.ping = answer(200, "WWW-Authenticate", bearer) }, "answered 200 and has", []string{"problem C14"}},
		{"C16 redirect", func(f *fake) { f.ping = answer(301, "Location", "https://www.example/?session=1") }, "redirected to https://www.example/", []string{"problem C16"}},
		{"C07 realm", func(f *fake) {
			f.other = func(w http.ResponseWriter, r *http.Request) {
				if f.knows(r) {
					f.serve(w, r)
					return
				}
				w.Header().Set("WWW-Authenticate", `Bearer realm="https://other.example/token",service="registry"`)
				w.WriteHeader(http.StatusUnauthorized)
			}
		}, "https://other.example/token", []string{"problem C07"}},
	})
}

func TestPingOpenAndTheRestNot(t *testing.T) {
	f := newFake()
	f.ping = answer(200)
	o := f.start(t)
	o.User, o.Password = "", ""
	r := doctor.Run(t.Context(), o)
	says(t, r, "and GET /v2/coolteam/app/manifests/latest 401", "problem C01")
}

// Credentials stay with the registry: an http realm, and one on a host whose
// certificate is not its own, get none.
func TestNoPasswordGoesToAnHTTPRealm(t *testing.T) {
	f, elsewhere := newFake(), newFake()
	elsewhere.leaf = nil
	at := elsewhere.start(t)
	f.challenge = []string{fmt.Sprintf(`Bearer realm="http://127.0.0.1:%s/token",service="registry"`, at.Target.Port)}
	r := examine(t, f)
	if got := wrong(r); len(got) == 0 || got[0] != "problem C05" {
		t.Errorf("got %q, want problem C05", got)
	}
	if seen := elsewhere.requests(); len(seen) > 0 {
		t.Errorf("the http realm was asked: %q", seen)
	}
	noPassword(t, f)
}

func TestARealmElsewhere(t *testing.T) {
	tokens := newFake()
	tokens.start(t)
	_, port, _ := net.SplitHostPort(tokens.host)
	f := newFake()
	f.challenge = []string{`Bearer realm="https://127.0.0.1:` + port + `/token",service="registry"`}
	o := f.start(t)
	// Not trusted: its CA is another one.
	r := doctor.Run(t.Context(), o)
	says(t, r, "certificate has to be trusted", "problem C06", "problem realm")
	noPassword(t, tokens)
	// Trusted: it is used, over https.
	o.CA = append(o.CA, tokens.ca)
	r = doctor.Run(t.Context(), o)
	says(t, r, "a name of an inner network", "problem C06")
	if !has(r, doctor.OK, "login") {
		t.Errorf("no login:\n%s", words(t, r))
	}
	for _, line := range f.requests() {
		if strings.Contains(line, "Basic ") {
			t.Errorf("the registry got the password that is the realm's: %s", line)
		}
	}
}

func TestLoginsThatFail(t *testing.T) {
	tryRows(t, []row{
		{"wrong password", func(f *fake) { f.realm = answer(401) }, "user name or password is wrong", []string{"problem login"}},
		{"no right to log in", func(f *fake) { f.realm = answer(403) }, "may not use this registry", []string{"problem login"}},
		{"locked out", func(f *fake) { f.realm = answer(429, "Retry-After", "30") }, "Retry-After: 30", []string{"problem login"}},
		{"token service is down", func(f *fake) { f.realm = answer(503) }, "this is no wrong password", []string{"problem login"}},
		{"no such realm", func(f *fake) { f.realm = answer(404) }, "location /token", []string{"problem realm"}},
		{"redirected realm", func(f *fake) { f.realm = answer(302, "Location", "/login") }, "follows no redirect", []string{"problem realm"}},
		{"a page", func(f *fake) { f.realm = func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") } }, "what is no token", []string{"problem realm"}},
		{"an empty token", func(f *fake) {
			f.realm = func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"token":""}`) }
		}, "no usable token", []string{"problem realm"}},
		{"the token is refused", func(f *fake) {
			f.ping = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+f.host+`/token",service="registry"`)
				w.WriteHeader(401)
			}
		}, "refuses the token", []string{"problem token"}},
		{"the password comes back", func(f *fake) {
			f.realm = func(w http.ResponseWriter, r *http.Request) {
				user, given, _ := r.BasicAuth()
				http.Error(w, "no "+user+" "+given+" "+r.Header.Get("Authorization")+"\x1b[31m", http.StatusUnauthorized)
			}
		}, "***", []string{"problem login"}},
		{"Basic, wrong password", func(f *fake) { f.challenge = []string{`Basic realm="x"`}; f.basic = true; f.ping = basicRefused }, "user name or password is wrong", []string{"warning C02", "problem login"}},
		{"limited ping", func(f *fake) { f.ping = answer(429, "Retry-After", "9") }, "no login problem", []string{"problem rate"}},
		{"registry down", func(f *fake) { f.ping = answer(502) }, "the registry behind it does not", []string{"problem answer"}},
		{"no registry", func(f *fake) { f.ping = answer(404) }, "location /v2/", []string{"problem answer"}},
	})
}

func basicRefused(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
	w.WriteHeader(http.StatusUnauthorized)
}

// A wrong password is tried once: registries count.
func TestAWrongPasswordIsTriedOnce(t *testing.T) {
	f := newFake()
	f.realm = answer(401)
	examine(t, f)
	n := 0
	for _, line := range f.requests() {
		if strings.Contains(line, "Basic ") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
}

func TestRights(t *testing.T) {
	tryRows(t, []row{
		{"none", func(f *fake) { f.rights = nil }, "asked for pull,push, granted nothing", []string{"problem scope"}},
		{"pull only", func(f *fake) { f.rights = []string{"pull"} }, "may pull coolteam/app and not push", []string{}},
		{"none, opaque token", func(f *fake) { f.rights, f.opaque = nil, true }, "may not pull coolteam/app", []string{"problem scope"}},
		{"pull only, opaque token", func(f *fake) { f.rights, f.opaque = []string{"pull"}, true }, "may not push to coolteam/app", []string{}},
		{"granted and refused", func(f *fake) { f.other = answer(403) }, "the token grants pull", []string{"problem scope"}},
		{"limited", func(f *fake) {
			f.other = answer(429, "ratelimit-limit", "100;w=21600", "ratelimit-remaining", "0;w=21600")
		}, "limit 100;w=21600, remaining 0;w=21600", []string{"problem rate"}},
	})
}

func TestUploadsThatGoAstray(t *testing.T) {
	at := func(location string) func(f *fake) {
		return func(f *fake) {
			f.upload = func(w http.ResponseWriter, _ *http.Request) {
				if location != "" {
					w.Header().Set("Location", strings.ReplaceAll(location, "HOST", f.host))
				}
				w.WriteHeader(http.StatusAccepted)
			}
		}
	}
	const path = "/v2/coolteam/app/blobs/uploads/1?_state=secret-state"
	patch := func(h http.HandlerFunc) func(f *fake) { return func(f *fake) { f.patch = h } }
	tryRows(t, []row{
		{"http", at("http://HOST" + path), "proxy_set_header X-Forwarded-Proto https;", []string{"problem location"}},
		{"another host", at("https://registry.internal:5000" + path), "another host", []string{"problem location"}},
		{"another port", at("https://" + host + path), "proxy_set_header Host $http_host;", []string{"problem location"}},
		{"outside", at("/upload/1"), "outside /v2/", []string{"warning location"}},
		{"nowhere", at(""), "without a Location", []string{"problem location"}},
		{"no POST", func(f *fake) { f.upload = answer(405) }, "takes no POST", []string{"problem upload"}},
		{"a redirect", func(f *fake) { f.upload = answer(307, "Location", "/x") }, "redirect of a POST", []string{"problem upload"}},
		{"storage", func(f *fake) { f.upload = answer(500) }, "no push begins", []string{"problem upload"}},
		{"413", patch(answer(413)), "client_max_body_size 0;", []string{"problem body"}},
		{"411", patch(answer(411)), "Transfer-Encoding: chunked", []string{"problem body"}},
		{"501", patch(answer(501)), "Transfer-Encoding: chunked", []string{"problem body"}},
		{"502", patch(answer(502)), "gives up", []string{"problem body"}},
		{"Authorization is lost", patch(answer(401)), "drops Authorization", []string{"problem body"}},
		{"not shared", patch(answer(404)), "http.secret", []string{"problem body"}},
		{"cut", patch(answer(202, "Location", path, "Range", "0-1048575")), "1048576 arrived", []string{"problem body"}},
		{"broken off", patch(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), "in the middle of a body", []string{"problem body"}},
	})
}

// Whatever became of it, an upload that was started is cancelled, and the
// token goes nowhere but to the registry.
func TestUploadsAreAlwaysCancelled(t *testing.T) {
	elsewhere := newFake()
	o := elsewhere.start(t)
	for _, location := range []string{"http://HOST/v2/x/1", "https://127.0.0.1:" + o.Target.Port + "/v2/x/1", "/elsewhere/1"} {
		f := newFake()
		f.upload = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", strings.ReplaceAll(location, "HOST", f.host))
			w.WriteHeader(http.StatusAccepted)
		}
		f.patch = answer(413)
		r := examine(t, f)
		if seen := strings.Join(f.requests(), "\n"); !strings.Contains(seen, "DELETE /") {
			t.Errorf("%s: not cancelled:\n%s", location, seen)
		}
		if !has(r, doctor.OK, "upload") {
			t.Errorf("%s: the report does not say that it was cancelled:\n%s", location, words(t, r))
		}
	}
	if seen := elsewhere.requests(); len(seen) > 0 {
		t.Errorf("another host was asked: %q", seen)
	}
}

// distribution wants the right to delete for it; without that the session is
// left, and the report says so.
func TestCancellingWithTheRightToDelete(t *testing.T) {
	f := newFake()
	f.deletes = true
	says(t, examine(t, f), "an upload was started and cancelled")
	f = newFake()
	f.deletes, f.rights = true, []string{"pull", "push"}
	says(t, examine(t, f), "could not be cancelled: 401")
}

func TestWithoutALoginNothingIsUploaded(t *testing.T) {
	f := newFake()
	f.rights = []string{"pull"}
	o := f.start(t)
	o.User, o.Password = "", ""
	r := doctor.Run(t.Context(), o)
	says(t, r, "everybody may pull coolteam/app")
	for _, line := range f.requests() {
		if !strings.HasPrefix(line, "GET ") && !strings.HasPrefix(line, "HEAD ") {
			t.Errorf("without a login: %s", line)
		}
	}
	if why := untried(r, "location"); !strings.Contains(why, "no --user") {
		t.Errorf("location not tried: %q", why)
	}
}

func TestClocksThatDiffer(t *testing.T) {
	f := newFake()
	o := f.start(t)
	o.Now = func() time.Time { return f.now.Add(10 * time.Minute) }
	says(t, doctor.Run(t.Context(), o), "10m0s behind ours", "problem clock")
	o.Now = func() time.Time { return f.now.Add(-10 * time.Minute) }
	says(t, doctor.Run(t.Context(), o), "10m0s ahead of ours", "problem clock")
}

func TestCORS(t *testing.T) {
	const page = "https://pages.example"
	right := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", page)
		w.Header().Set("Access-Control-Allow-Headers", "Authorization")
		w.Header().Set("Access-Control-Expose-Headers", "WWW-Authenticate")
	}
	for _, tt := range []struct {
		name   string
		allows http.HandlerFunc // before the registry's own answer
		text   string
		want   []string
	}{
		{"right", right, "pages of " + page + " are let in", []string{}},
		{"none", nil, "preflight OPTIONS /v2/ is answered", []string{"problem cors"}},
		{"another page", func(w http.ResponseWriter, r *http.Request) {
			right(w, r)
			w.Header().Set("Access-Control-Allow-Origin", "https://other.example")
		}, "does not allow pages of", []string{"problem cors"}},
		{"twice", func(w http.ResponseWriter, r *http.Request) {
			right(w, r)
			w.Header().Add("Access-Control-Allow-Origin", page)
		}, "proxy_hide_header", []string{"problem cors"}},
		{"not readable", func(w http.ResponseWriter, r *http.Request) {
			right(w, r)
			w.Header().Del("Access-Control-Expose-Headers")
		}, "may not read WWW-Authenticate", []string{"warning cors"}},
		{"no Authorization", func(w http.ResponseWriter, r *http.Request) {
			right(w, r)
			w.Header().Del("Access-Control-Allow-Headers")
		}, "does not allow the header Authorization", []string{"problem cors"}},
	} {
		f := newFake()
		if tt.allows != nil {
			f.ping = func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Origin") != "" {
					tt.allows(w, r)
				}
				switch {
				case r.Method == http.MethodOptions:
					w.WriteHeader(http.StatusNoContent)
				case !f.knows(r):
					w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+f.host+`/token",service="registry"`)
					w.WriteHeader(http.StatusUnauthorized)
				}
			}
		}
		o := f.start(t)
		o.Origin = page
		t.Run(tt.name, func(t *testing.T) { says(t, doctor.Run(t.Context(), o), tt.text, tt.want...) })
	}
}

func TestNamesAndPorts(t *testing.T) {
	f := newFake()
	o := f.start(t)

	none := o
	none.Lookup = func(context.Context, string) ([]netip.Addr, error) {
		return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
	}
	r := doctor.Run(t.Context(), none)
	says(t, r, "has no address", "problem dns")
	if untried(r, "tls") != "the name has no address" || untried(r, "location") == "" {
		t.Errorf("not tried: %+v", r.NotTried)
	}

	// Two families, one of them dead.
	half := o
	half.Lookup = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")}, nil
	}
	r = doctor.Run(t.Context(), half)
	says(t, r, "and not at ::1")
	if !has(r, doctor.Note, "port") || !has(r, doctor.OK, "upload") {
		t.Errorf("one dead address on loopback: %s", words(t, r))
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	closed := o
	closed.Target.Port = port
	says(t, doctor.Run(t.Context(), closed), "connection refused", "problem port")
}

// A deaf address is given up when the step's time is over.
func TestADeafServerIsGivenUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := newFake().options(t, "https://"+l.Addr().String())
	o.Step = 200 * time.Millisecond
	says(t, doctor.Run(t.Context(), o), "no answer in time", "problem tls")

	f := newFake()
	f.ping = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	o = f.start(t)
	o.Step = time.Second
	says(t, doctor.Run(t.Context(), o), "no answer in 1s", "problem answer")
}

func TestSomethingElseSpeaks(t *testing.T) {
	plain := newFake()
	plain.leaf = nil
	o := plain.start(t)
	o.Target.Scheme = "https"
	says(t, doctor.Run(t.Context(), o), "speaks plain HTTP, not TLS", "problem port")

	secure := newFake()
	o = secure.start(t)
	o.Target.Scheme = "http"
	says(t, doctor.Run(t.Context(), o), "the port speaks TLS", "problem port")

	o.Target.Port, o.Target.Scheme = banner(t, "SSH-2.0-OpenSSH_9.2\r\n"), "https"
	says(t, doctor.Run(t.Context(), o), "SSH-2.0-OpenSSH_9.2", "problem port")
	o.Target.Scheme = "http"
	says(t, doctor.Run(t.Context(), o), "is no HTTP", "problem port")
}

// banner speaks first, and to everybody the same.
func banner(t testing.TB, text string) (port string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, text)
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

func TestPlainHTTPOnThisMachineGetsALogin(t *testing.T) {
	f := newFake()
	f.leaf = nil
	f.challenge = []string{`Bearer realm="http://HOST/token",service="registry"`}
	r := examine(t, f)
	says(t, r, "nothing is stored")
	if !has(r, doctor.OK, "login") {
		t.Errorf("no login:\n%s", words(t, r))
	}
}

// connectProxy is a proxy that knows CONNECT, and where the registry is.
func connectProxy(t testing.TB, to string, status int) (url string) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status != http.StatusOK || r.Method != http.MethodConnect {
			w.WriteHeader(status)
			return
		}
		c, err := net.Dial("tcp", to)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer c.Close()
		mine, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer mine.Close()
		_, _ = io.WriteString(mine, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() { _, _ = io.Copy(c, buffered) }()
		_, _ = io.Copy(mine, c)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestAProxyOfTheEnvironmentIsSaidAndUsed(t *testing.T) {
	f := newFake()
	o := f.start(t)
	through := func(proxy, not string) doctor.Options {
		p := o
		p.Lookup = func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("only the proxy knows") }
		p.Getenv = func(name string) string {
			return map[string]string{"HTTPS_PROXY": strings.Replace(proxy, "://", "://me:proxy-secret@", 1), "NO_PROXY": not}[name]
		}
		return p
	}
	proxy := connectProxy(t, "127.0.0.1:"+o.Target.Port, 200)
	r := doctor.Run(t.Context(), through(proxy, ""))
	says(t, r, "do not see this shell's environment", "warning proxy")
	if all := words(t, r); strings.Contains(all, "proxy-secret") || !has(r, doctor.OK, "upload") {
		t.Errorf("through the proxy:\n%s", all)
	}
	says(t, doctor.Run(t.Context(), through(proxy, host)), "only the proxy knows", "problem dns")
	says(t, doctor.Run(t.Context(), through(connectProxy(t, "", 403), "")), "allow CONNECT to", "warning proxy", "problem proxy")
	says(t, doctor.Run(t.Context(), through("http://127.0.0.1:1", "")), "does not answer", "warning proxy", "problem proxy")
}

func TestAnswersAreBounded(t *testing.T) {
	f := newFake()
	f.ping = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		for range 64 {
			_, _ = w.Write([]byte(strings.Repeat("very long ", 10000)))
		}
	}
	says(t, examine(t, f), "…", "problem answer")
	f = newFake()
	f.ping = answer(401, "X-Long", strings.Repeat("x", 100<<10))
	says(t, examine(t, f), "GET /v2/: ", "problem answer")
	f = newFake()
	f.challenge = []string{strings.Repeat("Bearer, ", 1000)}
	r := examine(t, f)
	if all := words(t, r); len(all) > 20000 {
		t.Errorf("a report of %d bytes", len(all))
	}
}

func TestReportsAreFitForATerminal(t *testing.T) {
	f := newFake()
	f.ping = func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "\x1b[2Jgone\u202e", 400) }
	if all := words(t, examine(t, f)); strings.Contains(all, `\u001b`) || strings.Contains(all, "\u202e") {
		t.Errorf("control characters passed:\n%s", all)
	}
}

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]string{
		"docker.acme.example":            "https://docker.acme.example",
		"Docker.acme.example:8443":       "https://docker.acme.example:8443",
		"https://docker.acme.example/v2": "https://docker.acme.example",
		"https://x.example:443/v2/":      "https://x.example",
		"http://x.example":               "http://x.example",
		"http://x.example:443":           "http://x.example:443",
		"[::1]:5000":                     "https://[::1]:5000",
		"https://[::1]":                  "https://[::1]",
		"https://x.example/repository/a": "https://x.example/repository/a",
	} {
		got, err := doctor.ParseTarget(text)
		if err != nil || got.String() != want {
			t.Errorf("%q: got %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "https://", "ftp://x", "https://ann:secret@x", "https://x/?a=b", "http://x y"} {
		got, err := doctor.ParseTarget(text)
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %s, %v; want an error", text, got, err)
		}
	}
}
