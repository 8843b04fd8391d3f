package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1"
)

// inStorage is a stand-in with coolteam/app:1, whose blobs are in storage at a
// place of the world, and a regward in front that has these settings too.
func inStorage(t *testing.T, w *world, place, settings string) (*standin, *regward, v1.Image) {
	t.Helper()
	w.next = map[string]string{"storage": place}
	s := newECR(t)
	s.extra = settings
	app := small(t)
	if err := s.store.has("coolteam/app:1", app); err != nil {
		t.Fatal(err)
	}
	return s, s.front(t, teamRules), app
}

func TestR19_BlobsInStorageAreFetchedWithoutACredential(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		s, g, app := inStorage(t, w, "storage.example.com:443", "\n  redirects: follow")
		token := g.token(t, "ann", "repository:coolteam/app:pull")
		blob := "/v2/coolteam/app/blobs/" + layerDigest(t, app)
		whole := g.send(t, http.MethodGet, blob, token, nil, "Accept", "application/octet-stream", "Cookie", "a=b").is(t, http.StatusOK)
		if got := sum([]byte(whole.body)); got != layerDigest(t, app) || whole.Header.Get("Docker-Content-Digest") != got {
			t.Errorf("got %s, header %s", got, whole.Header.Get("Docker-Content-Digest"))
		}
		if whole.Header.Get("Set-Cookie") != "" {
			t.Error("storage's cookie reached the client")
		}
		part := g.send(t, http.MethodGet, blob, token, nil, "Range", "bytes=2-5").is(t, http.StatusPartialContent)
		if part.body != whole.body[2:6] {
			t.Errorf("got %q of %q", part.body, whole.body[:9])
		}
		g.send(t, http.MethodGet, blob, token, nil, "If-None-Match", `"`+layerDigest(t, app)+`"`).is(t, http.StatusNotModified)
		g.send(t, http.MethodHead, blob, token, nil).is(t, http.StatusOK)
		for _, h := range s.requests("storage", nil) {
			if h.host != "storage.example.com" || h.header.Get("Referer") != "" {
				t.Errorf("%s, Referer %s", h, h.header.Get("Referer"))
			}
		}
	})
}

func TestR20_BlobsInStorageArePassedAsTheyAre(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		s, g, app := inStorage(t, w, "storage.example.com:443", "\n  redirects: pass")
		token := g.token(t, "ann", "repository:coolteam/app:pull")
		digest := layerDigest(t, app)
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			a := g.send(t, method, "/v2/coolteam/app/blobs/"+digest, token, nil).is(t, http.StatusTemporaryRedirect)
			if want := presigned("https://storage.example.com", method, "coolteam/app", digest); a.Header.Get("Location") != want {
				t.Errorf("%s: got %s, want %s", method, a.Header.Get("Location"), want)
			}
		}
		if asked := s.requests("storage", nil); len(asked) > 0 {
			t.Errorf("regward went there itself: %v", asked)
		}
		for _, name := range []string{"skopeo", "podman", "crane"} {
			c := kindNamed(name).new(t, g.host)
			c.login(t, "ann", passwords["ann"])
			c.pull(t, g.host+"/coolteam/app:1").works(t)
		}
		if len(s.requests("storage", nil)) == 0 {
			t.Error("no client went there")
		}
	})
}

// A client would take its token along to a host below regward's own (R20).
func TestR20_StorageBelowRegwardsOwnNameIsFollowed(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		w.next = map[string]string{"storage": "storage.example.com:443"}
		s := newECR(t)
		s.extra = "\n  redirects: pass"
		app := small(t)
		if err := s.store.has("coolteam/app:1", app); err != nil {
			t.Fatal(err)
		}
		g := newRegward(t, s.settings())
		g.frame = strings.Replace(g.frame, "hostname: [", "hostname: [example.com, ", 1)
		g.configure(t, teamRules)
		g.serve(t)
		token := g.token(t, "ann", "repository:coolteam/app:pull")
		g.send(t, http.MethodGet, "/v2/coolteam/app/blobs/"+layerDigest(t, app), token, nil).is(t, http.StatusOK)
	})
}

func TestR18_RedirectsIntoThePrivateNetworkAreRefused(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		for _, mode := range []string{"follow", "pass"} {
			t.Run(mode, func(t *testing.T) {
				s, g, app := inStorage(t, w, "inside.example.com:443", "\n  redirects: "+mode)
				token := g.token(t, "ann", "repository:coolteam/app:pull")
				for _, base := range []string{
					"https://inside.example.com",    // a name that leads inside
					"https://10.9.8.7",              // an address inside
					"https://169.254.169.254",       // where clouds keep their secrets
					"https://localhost:9781",        // regward's own machine
					"https://[::ffff:10.9.8.7]",     // an address inside, in disguise
					"http://storage.example.com",    // outside, and in the clear
					"https://user@198.51.100.1/sub", // with a login in it
				} {
					s.storedAt(base)
					for _, method := range []string{http.MethodGet, http.MethodHead} {
						a := g.send(t, method, "/v2/coolteam/app/blobs/"+layerDigest(t, app), token, nil).is(t, http.StatusBadGateway)
						if a.Header.Get("Location") != "" || strings.Contains(a.body, "example.com") {
							t.Errorf("%s: the client learns of it: %s %s", base, a.Header.Get("Location"), a.body)
						}
					}
				}
				if asked := s.requests("storage", nil); len(asked) > 0 {
					t.Errorf("regward went there: %v", asked)
				}
			})
		}
	})
}

func TestR18_RedirectHostsMayBeInside(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		for _, mode := range []string{"follow", "pass"} {
			t.Run(mode, func(t *testing.T) {
				s, g, app := inStorage(t, w, "inside.example.com:443", "\n  redirect_hosts: [inside.example.com]\n  redirects: "+mode)
				token := g.token(t, "ann", "repository:coolteam/app:pull")
				blob := "/v2/coolteam/app/blobs/" + layerDigest(t, app)
				a := g.send(t, http.MethodGet, blob, token, nil).is(t, http.StatusOK)
				if strings.Contains(fmt.Sprint(a.Header), "inside.example.com") {
					t.Errorf("the answer names a host inside: %v", a.Header)
				}
				if asked := s.requests("storage", nil); len(asked) != 1 {
					t.Errorf("storage was asked %v", asked)
				}
				s.storedAt("http://inside.example.com") // never from https to http (R19)
				g.send(t, http.MethodGet, blob, token, nil).is(t, http.StatusBadGateway)
			})
		}
	})
}

// A registry in the clear may have its storage in the clear, where the
// operator has written it down.
func TestR18_PlainStorageOfAPlainRegistry(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		s := newArtifactory(t)
		w.next = map[string]string{"storage": "minio:9000"}
		s.storedAt(s.listen(t, "storage", "", false, s.serveStorage))
		app := small(t)
		if err := s.store.has("coolteam/app:1", app); err != nil {
			t.Fatal(err)
		}
		for settings, want := range map[string]int{"": http.StatusBadGateway, "\n  redirect_hosts: [minio:9000]": http.StatusOK} {
			s.extra = settings
			g := s.front(t, teamRules)
			token := g.token(t, "ann", "repository:coolteam/app:pull")
			g.send(t, http.MethodGet, "/v2/coolteam/app/blobs/"+layerDigest(t, app), token, nil).is(t, want)
		}
	})
}

func TestR18_RelativeRedirectsAreFollowedEvenWhereOthersPass(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"follow", "pass"} {
		s := newArtifactRegistry(t)
		s.extra = "\n  redirects: " + mode
		app := small(t)
		if err := s.store.has("coolteam/app:1", app); err != nil {
			t.Fatal(err)
		}
		g := s.front(t, teamRules)
		token := g.token(t, "ann", "repository:coolteam/app:pull")
		a := g.send(t, http.MethodGet, "/v2/coolteam/app/blobs/"+layerDigest(t, app), token, nil).is(t, http.StatusOK)
		if sum([]byte(a.body)) != layerDigest(t, app) {
			t.Errorf("%s: it is not the layer", mode)
		}
	}
}

// Bodies of uploads cannot be sent again, so an upload goes where it was sent
// or nowhere; its bodyless start may go on elsewhere on the same host (R21).
func TestR21_RedirectsOfUploadsNeverReachTheClient(t *testing.T) {
	t.Parallel()
	s := newGitea(t)
	inner := s.store
	s.redirectUploads = func(r *http.Request) string {
		if r.Method == http.MethodPatch || r.Method == http.MethodPost && r.URL.Query().Get("again") == "" {
			return r.URL.Path + "?again=1"
		}
		return ""
	}
	g := s.front(t, teamRules)
	token := g.token(t, "ann", "repository:coolteam/app:pull,push")
	start := g.send(t, http.MethodPost, "/v2/coolteam/app/blobs/uploads/", token, nil).is(t, http.StatusAccepted)
	g.send(t, http.MethodPatch, start.Header.Get("Location"), token, strings.NewReader("hello")).is(t, http.StatusBadGateway)
	if len(inner.uploads) != 1 {
		t.Errorf("uploads begun: %d", len(inner.uploads))
	}
}
