package doctor_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/regward/regward/doctor"
)

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
