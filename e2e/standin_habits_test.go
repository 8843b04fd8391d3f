package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// Lists come in pages, and each registry has its own way to say where the
// next one is.
func TestListsAreReadToTheirEndWhateverTheirLinks(t *testing.T) {
	t.Parallel()
	for _, up := range imitations {
		if up.name == "Docker Hub" { // it has no catalog
			continue
		}
		t.Run(up.name, func(t *testing.T) {
			t.Parallel()
			s, _ := stocked(t, up.new)
			g := s.front(t, teamRules)
			s.store.most = 2
			want := []string{"coolteam/a", "coolteam/app", "coolteam/b", "coolteam/c", "library/hello", "library/multi"}
			for _, ref := range []string{"coolteam/a:1", "coolteam/b:1", "coolteam/c:1", "coolteam/app:2", "coolteam/app:3"} {
				if err := s.store.has(ref, small(t)); err != nil {
					t.Fatal(err)
				}
			}
			c := newCrane(t, g.host).(*crane)
			c.login(t, "ann", passwords["ann"])
			if got := strings.Fields(c.run(t, "catalog", g.host).works(t).out); !slices.Equal(got, want) {
				t.Errorf("catalog: got %q, want %q", got, want)
			}
			// crane takes localhost for a registry without TLS and would not turn the page.
			tags := newSkopeo(t, g.host).(*skopeo)
			tags.login(t, "ann", passwords["ann"]).works(t)
			tags.tags(t, g.host+"/coolteam/app").works(t).says(t, `"1"`, `"2"`, `"3"`)
		})
	}
}

func TestDeletesWorkWhateverTheScopesOfTheUpstream(t *testing.T) {
	t.Parallel()
	for _, up := range imitations {
		if up.name == "Docker Hub" { // it deletes by its own API only
			continue
		}
		t.Run(up.name, func(t *testing.T) {
			t.Parallel()
			s, app := stocked(t, up.new)
			g := s.front(t, teamRules)
			token := g.token(t, "ann", "repository:coolteam/app:delete")
			g.send(t, http.MethodDelete, "/v2/coolteam/app/manifests/"+descriptor(t, app).Digest.String(), token, nil).is(t, http.StatusAccepted)
			if s.store.digestOf("coolteam/app:1") != "" {
				t.Error("the upstream still has it")
			}
		})
	}
}

// A registry that was restarted knows no token of before.
func TestTokensTheUpstreamHasForgottenAreFetchedAgain(t *testing.T) {
	t.Parallel()
	for _, up := range imitations {
		t.Run(up.name, func(t *testing.T) {
			t.Parallel()
			s, _ := stocked(t, up.new)
			g := s.front(t, teamRules)
			token := g.token(t, "ann", "repository:coolteam/app:pull,push")
			for range 3 {
				g.send(t, http.MethodGet, "/v2/coolteam/app/manifests/1", token, nil).is(t, http.StatusOK)
				g.send(t, http.MethodPost, "/v2/coolteam/app/blobs/uploads/", token, nil).is(t, http.StatusAccepted)
				s.tokens.forgetAll()
			}
		})
	}
}

// Harbor shows its catalog to administrators, and refuses others with another
// scheme than the one that pulls go by.
func TestHarborsRefusedCatalogDoesNotStopPulls(t *testing.T) {
	t.Parallel()
	s, _ := stocked(t, func(t testing.TB) *standin { return newHarbor(t, false) })
	g := s.front(t, teamRules)
	list := g.token(t, "ann", "registry:catalog:*")
	token := g.token(t, "ann", "repository:coolteam/app:pull")
	for range 3 {
		g.send(t, http.MethodGet, "/v2/_catalog", list, nil).is(t, http.StatusNotFound)
		g.send(t, http.MethodGet, "/v2/coolteam/app/manifests/1", token, nil).is(t, http.StatusOK)
	}
	s.sawOnlyItsOwn(t)
}

func TestQuaysNginxRefusingIsToldInJSON(t *testing.T) {
	t.Parallel()
	s, _ := stocked(t, func(t testing.TB) *standin { return newQuay(t, 3) })
	g := s.front(t, teamRules)
	token := g.token(t, "ann", "repository:coolteam/app:pull")
	var last answer
	for range 5 {
		last = g.send(t, http.MethodGet, "/v2/coolteam/app/manifests/1", token, nil)
	}
	last.is(t, http.StatusTooManyRequests)
	if strings.Contains(last.body, "<html") || !strings.Contains(last.body, "TOOMANYREQUESTS") || last.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s: %s", last.Header.Get("Content-Type"), last.body)
	}
}

// Docker Hub counts GETs of manifests. Its limit is not taken for one of
// regward's (M13), and a HEAD costs nothing.
func TestHubsLimitIsNotTakenForOurs(t *testing.T) {
	t.Parallel()
	s, _ := stocked(t, func(t testing.TB) *standin { return newHub(t, 2) })
	g := s.front(t, teamRules)
	token := g.token(t, "ann", "repository:coolteam/app:pull")
	for range 4 {
		g.send(t, http.MethodHead, "/v2/coolteam/app/manifests/1", token, nil).is(t, http.StatusOK)
	}
	for range 2 {
		a := g.send(t, http.MethodGet, "/v2/coolteam/app/manifests/1", token, nil).is(t, http.StatusOK)
		if a.Header.Get("Ratelimit-Remaining")+a.Header.Get("Docker-Ratelimit-Source") != "" { // L03
			t.Errorf("the Hub's budget reached the client: %v", a.Header)
		}
	}
	a := g.send(t, http.MethodGet, "/v2/coolteam/app/manifests/1", token, nil).is(t, http.StatusTooManyRequests)
	if !strings.Contains(a.body, "TOOMANYREQUESTS") || strings.Contains(a.body, "www.docker.com") {
		t.Errorf("the refusal says %s", a.body)
	}
	if len(s.requests("tokens", nil)) > 2 {
		t.Errorf("a token for each request: %v", s.requests("tokens", nil))
	}
}

// Public images of GHCR want a token too, which anybody gets; and an index is
// there only for who lists its type.
func TestGHCRWithoutAnAccount(t *testing.T) {
	t.Parallel()
	s := newGHCR(t)
	s.user = ""
	if err := s.store.has("library/multi:1", multiArch(t)); err != nil {
		t.Fatal(err)
	}
	g := s.front(t, teamRules)
	for _, k := range []string{"docker", "skopeo", "crane"} {
		kindNamed(k).new(t, g.host).pull(t, g.host+"/library/multi:1").works(t)
	}
	token := g.token(t, "", "repository:library/multi:pull")
	a := g.send(t, http.MethodGet, "/v2/library/multi/manifests/1", token, nil,
		"Accept", "application/vnd.docker.distribution.manifest.v2+json").is(t, http.StatusNotFound)
	if !strings.Contains(a.body, "MANIFEST_UNKNOWN") {
		t.Errorf("the refusal says %s", a.body)
	}
	for _, h := range s.requests("tokens", nil) {
		if h.scheme != "" {
			t.Errorf("a login that nobody gave: %s", h)
		}
	}
}

// ECR's passwords last twelve hours. The one after is 400, which must not look
// like something the client did.
func TestECRsPasswordOutOfDateIsNotTheClientsFault(t *testing.T) {
	t.Parallel()
	s, _ := stocked(t, newECR)
	s.users["AWS"] = "the next twelve hours"
	g := s.front(t, teamRules)
	token := g.token(t, "ann", "repository:coolteam/app:pull")
	g.send(t, http.MethodGet, "/v2/coolteam/app/manifests/1", token, nil).is(t, http.StatusBadGateway)
	eventually(t, "/readyz names the login", 5*time.Second, func() error {
		r, err := http.Get(g.health + "/readyz")
		if err != nil {
			return err
		}
		defer r.Body.Close()
		if body := readAll(t, r.Body); !strings.Contains(body, "AWS") {
			return fmt.Errorf("it says %s", body)
		}
		return nil
	})
}

// A realm elsewhere gets no password unless the file names its host (T34).
func TestARealmOnAnotherHostIsNotAsked(t *testing.T) {
	t.Parallel()
	s := newGitLab(t)
	s.extra = ""
	if err := s.store.has("coolteam/app:1", small(t)); err != nil {
		t.Fatal(err)
	}
	g := s.front(t, teamRules)
	token := g.token(t, "ann", "repository:coolteam/app:pull")
	g.send(t, http.MethodGet, "/v2/coolteam/app/manifests/1", token, nil).is(t, http.StatusBadGateway)
	if asked := s.requests("tokens", nil); len(asked) > 0 {
		t.Errorf("it was asked: %v", asked)
	}
	if out := g.proc.output(); !strings.Contains(out, "token_hosts") || !strings.Contains(out, "localhost") {
		t.Errorf("the log does not say what to add:\n%s", tail(out, 10))
	}
}
