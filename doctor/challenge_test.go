package doctor_test

import (
	"net/http"
	"testing"

	"github.com/regward/regward/doctor"
)

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
		{"another name", func(f *fake) { f.ping = answer(421) }, "proxy_set_header Host", []string{"problem answer"}},
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
