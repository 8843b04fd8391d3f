package doctor_test

import (
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"testing"

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

func noPassword(t testing.TB, f *fake) {
	t.Helper()
	for _, line := range f.requests() {
		if strings.Contains(line, "Basic ") || strings.Contains(line, base64.StdEncoding.EncodeToString([]byte(password))) {
			t.Errorf("the password went out: %s", line)
		}
	}
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
	for _, text := range []string{"", "https://", "ftp://x", "https://ann:secret@x", "https://x/?a=b", "http://x y",
		"https://$(id)", "https://[::1%25$(id)]", "https://a..b", "https://x:0", "https://x:65536", "https://" + strings.Repeat("a", 254), "https://bücher.example"} {
		got, err := doctor.ParseTarget(text)
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %s, %v; want an error", text, got, err)
		}
	}
}
