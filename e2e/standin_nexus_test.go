package e2e

import (
	"crypto/md5"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
)

// nexus is how a Nexus 3 is set up and reached.
type nexus struct {
	release string // of which some habits depend
	bearer  bool   // forceBasicAuth off and the Docker Bearer Token Realm active
	scoped  bool   // the Bearer challenge has a scope, as some releases say
	route   string // "port", "path", "subdomain", or "name": the repository is the first part of image names
	rut     bool   // X-Forwarded-User is believed
	anybody bool   // any login is taken, as some have seen it do with the bearer realm
	lockout *lockout
}

const (
	nexusRepository   = "docker-hosted"
	nexusUnauthorized = `{"errors":[{"code":"UNAUTHORIZED","message":"access to the requested resource is not authorized","detail":null}]}`
)

// newNexus starts it. Any layer is given under any image name, nobody comes in
// without a login, and Locations are relative and know nothing of /repository.
func newNexus(t testing.TB, n nexus) *standin {
	s := newStandin()
	s.store.shared = true
	s.extra = "\n  shared_blobs: true"
	s.store.link = n.link
	s.login = func(user, password string) int {
		if n.anybody {
			return http.StatusOK
		}
		return n.lockout.judge(user, s.check(user, password))
	}
	tokens := tokenService{s: s, whole: true, name: func(user string) string {
		id := md5.Sum([]byte(user)) // the same for a user, whenever it is asked for
		return fmt.Sprintf("DockerToken.%x-%x-3%x-a%x-%x", id[:4], id[4:6], id[6:8], id[8:9], id[9:15])
	}}
	docker := s.registry(takes{basic: true, bearer: n.bearer}, n.refuse)
	s.serve(t, false, n.path(), func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Server", "Nexus/"+n.release+" (COMMUNITY)")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "sandbox allow-forms allow-modals allow-popups allow-presentation allow-scripts allow-top-navigation")
		h.Set("X-Xss-Protection", "0")
		path, ok := n.inside(r.URL.Path)
		switch {
		case !ok || n.route == "name" && path == "/v2/_catalog":
			http.NotFound(w, r)
			return
		case path == "/v2/token":
			tokens.ServeHTTP(w, r)
			return
		case n.rut && r.Header.Get("X-Forwarded-User") != "":
			a, _ := takeApart(path)
			s.store.serve(w, r, a)
			return
		}
		inner := r.Clone(r.Context())
		inner.URL.Path = path
		docker(w, inner)
	})
	return s
}

// path is what regward's URL has behind the host.
func (n nexus) path() string {
	if n.route == "path" {
		return "/repository/" + nexusRepository
	}
	return ""
}

// inside is the path as the repository sees it. The core repairs a prefix that
// some proxy has put there twice.
func (n nexus) inside(path string) (string, bool) {
	own := "/repository/" + nexusRepository
	switch n.route {
	case "path":
		path, ok := strings.CutPrefix(strings.Replace(path, own+own, own, 1), own)
		return path, ok
	case "name":
		if path == own+"/v2/token" {
			return "/v2/token", true
		}
		return strings.Replace(path, "/v2/"+nexusRepository+"/", "/v2/", 1), true
	}
	return path, true
}

// base is the origin that Nexus believes it has (Jetty's forwarded headers). A
// port in X-Forwarded-Host is there twice.
func (n nexus) base(r *http.Request) string {
	scheme, host := "http", r.Host
	if proto := r.Header.Get("X-Forwarded-Proto"); proto != "" {
		scheme = proto
	}
	if forwarded := r.Header.Get("X-Forwarded-Host"); forwarded != "" {
		host = forwarded
		port := r.Header.Get("X-Forwarded-Port")
		if _, p, err := net.SplitHostPort(forwarded); err == nil && port == "" {
			port = p
		}
		if port != "" {
			host += ":" + port
		}
	}
	return scheme + "://" + host
}

func (n nexus) refuse(w http.ResponseWriter, r *http.Request, a asked, v verdict) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if v == insufficient {
		answerError(w, http.StatusForbidden, "DENIED", "access to the requested resource is not authorized", nil)
		return
	}
	if n.bearer {
		realm := n.base(r) + n.path() + "/v2/token"
		if n.route == "name" { // the ping names no repository: it gets that of some
			realm = n.base(r) + "/repository/" + nexusRepository + "/v2/token"
		}
		challenge := fmt.Sprintf(`Bearer realm="%s",service="%s"`, realm, realm)
		if n.scoped {
			challenge += `,scope="repository:*:pull"`
		}
		h.Set("Www-Authenticate", challenge)
	} else {
		h.Set("Www-Authenticate", `BASIC realm="Sonatype Nexus Repository Manager"`)
	}
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = w.Write([]byte(nexusUnauthorized))
}

// link is absolute; before 3.96 it leaves the repository out.
func (n nexus) link(r *http.Request, last string, count int) string {
	path := "/v2/_catalog"
	if !strings.HasPrefix(n.release, "3.7") {
		path = n.path() + path
	}
	return fmt.Sprintf(`<%s%s?n=%d&last=%s>; rel="next"`, n.base(r), path, count, last)
}
