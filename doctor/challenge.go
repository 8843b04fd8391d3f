package doctor

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Sentences that several findings share.
const (
	oneChallenge = `answer exactly one field: WWW-Authenticate: Bearer realm="https://HOST/token",service="HOST"`
	keepHeader   = "where a proxy adds the other one, take its own login out (nginx: no auth_basic in location /v2/)"
)

// checkChallenge judges the ping's challenge by C01 to C09.
func (e *examination) checkChallenge() {
	fields := e.ping.header.Values("Www-Authenticate")
	if e.ping.status == http.StatusOK {
		e.sayOpen(fields)
		return
	}
	if len(fields) == 0 {
		e.problem("C01", "GET /v2/ is answered 401 without WWW-Authenticate", "no client knows how to log in",
			"let the registry's header pass (nginx: no proxy_hide_header WWW-Authenticate; proxy_intercept_errors off;)")
		return
	}
	var all []challenge
	for _, f := range fields {
		all = append(all, parseChallenges(f)...)
	}
	before := e.report.Count(Problem) + e.report.Count(Warning)
	if e.checkSchemes(fields, all) && e.challenge.is("Bearer") {
		e.checkForm()
		e.checkConstant()
	}
	if e.report.Count(Problem)+e.report.Count(Warning) == before {
		e.ok("challenge", "GET /v2/ asks with "+cut(fields[0], maxQuote))
	}
}

// sayOpen: a ping of 200 is right only where nobody ever logs in.
func (e *examination) sayOpen(fields []string) {
	if len(fields) > 0 {
		e.problem("C14", "GET /v2/ is answered 200 and has a WWW-Authenticate field", "podman and skopeo ask for a token that nobody wants, others do not",
			"WWW-Authenticate belongs to 401 alone")
		return
	}
	why := "docker, podman and skopeo conclude that no login is needed and never send one; `docker login` takes any password"
	fix := "let the ping ask for a login, whoever comes (distribution: auth: in its configuration; Nexus: \"Allow anonymous docker pull\" off), or put regward in front"
	switch {
	case len(e.others) > 0:
		e.problem("C01", fmt.Sprintf("GET /v2/ is answered 200 without a login, and GET %s 401", e.others[0].url.Path), why+"; so private pulls and all pushes fail", fix)
	case e.o.User != "":
		e.problem("C01", "GET /v2/ is answered 200 without a login: the login of "+e.o.User+" would never be used", why, fix)
	default:
		e.warn("C01", "GET /v2/ is answered 200 without a login: the registry is open to everybody", why, "if that is not meant: "+fix)
	}
}

// checkSchemes picks the challenge that clients would use, and reports whether
// there is one.
func (e *examination) checkSchemes(fields []string, all []challenge) bool {
	var bearer, basic []challenge
	for _, c := range all {
		switch {
		case c.is("Bearer"):
			bearer = append(bearer, c)
		case c.is("Basic"):
			basic = append(basic, c)
		}
	}
	fixed := oneChallenge + "; " + keepHeader
	switch {
	case len(bearer) > 0 && len(basic) > 0:
		e.problem("C02", "GET /v2/ offers Bearer and Basic at once", "docker without a login stops with: no basic auth credentials, with one Basic overwrites the token; regclient prefers Basic", fixed)
	case len(bearer) == 0 && len(basic) == 0:
		e.problem("C02", "GET /v2/ asks for a login that registry clients do not know: "+e.quote(fields[0]), "docker, podman and containerd know Bearer and Basic", oneChallenge)
		return false
	case len(bearer) == 0:
		e.warn("C02", "GET /v2/ offers Basic only", "docker without a login stops with: no basic auth credentials, even where everybody may pull; passwords go with every request",
			"where all images need a login, that works; for some public ones a token service is needed (regward; distribution: auth.token; Nexus: the Docker Bearer Token Realm)")
	case len(fields) > 1:
		e.problem("C04", fmt.Sprintf("GET /v2/ has %d WWW-Authenticate fields", len(fields)), "oras reads the first, others the last: which realm is asked is chance", fixed)
	case len(all) > 1:
		e.problem("C04", "GET /v2/ has several challenges in one field", "most parsers ignore what follows the first, regclient fails", fixed)
	}
	if len(bearer) > 0 {
		e.challenge = bearer[0]
	} else {
		e.challenge = basic[0]
	}
	return true
}

// checkForm judges a Bearer challenge.
func (e *examination) checkForm() {
	c := e.challenge
	if len(c.flaws) > 0 {
		e.problem("C03", "the challenge is malformed: "+strings.Join(c.flaws, "; "), "each client reads another part of it: regclient fails on a space before a comma, oras on capitals, docker drops what follows an empty value",
			`write it like this: Bearer realm="https://HOST/token",service="HOST"`)
	}
	e.checkRealm(c.params["realm"])
	switch service, there := c.params["service"]; {
	case !there:
		e.warn("C08", "the challenge has no service", "clients leave it out or send it empty, and token services that sign for a service refuse", "add service=\"NAME\" (distribution: auth.token.service)")
	case service == "":
		e.warn("C08", "the challenge has an empty service", "clients leave it out or send it empty, and docker drops what follows it", "give it a name (distribution: auth.token.service)")
	}
	if scope := c.params["scope"]; scope != "" {
		e.warn("C09", "the ping's challenge has a scope: "+e.quote(scope), "regclient asks for it at every login, and a token service that does not grant it refuses the login", "leave scope out of the answer to /v2/; it belongs to answers about a repository")
	}
}

// checkRealm judges where the token service is said to be (C05, C06).
func (e *examination) checkRealm(realm string) {
	u, err := url.Parse(realm)
	forwarded := "nginx: proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header Host $http_host; distribution: auth.token.realm: https://HOST/..., spelled out"
	switch {
	case realm == "" || err != nil || u.Host != "" && !isHost(u.Hostname()):
		e.problem("C05", "the challenge has no realm that is a URL", "no client knows where to get a token", "add realm=\"https://HOST/token\" (distribution: auth.token.realm)")
	case u.Scheme == "" || u.Host == "":
		e.problem("C05", "the realm is relative: "+e.quote(realm), "docker cannot use it", "write the whole URL, "+e.at.Origin()+u.Path+" (distribution: auth.token.realm)")
	case u.Scheme != "https" && e.at.Scheme == "https":
		e.problem("C05", "the realm is not https: "+place(u), "passwords would go there in clear text; crane, oras and regctl refuse it, docker sends them", forwarded)
	case !strings.EqualFold(u.Hostname(), e.at.Name) || portOf(u) != e.at.Port:
		e.foreignRealm(u)
	}
}

// foreignRealm: another host is what Docker Hub does; one that only the
// server's own network knows is a mistake.
func (e *examination) foreignRealm(u *url.URL) {
	what := fmt.Sprintf("tokens come from %s, not from %s", u.Host, e.at.Host())
	fix := "let one name serve both (nginx: proxy_set_header Host $http_host; distribution: auth.token.realm: " + e.at.Origin() + u.Path + ")"
	if isLocal(u.Hostname()) && !isLocal(e.at.Name) {
		e.problem("C06", what+", a name of an inner network", "clients outside cannot reach it; crane and oras refuse it", fix)
		return
	}
	e.warn("C06", what, "normal for large registries (Docker Hub: auth.docker.io); behind a proxy it means that clients pass it by, and need its certificate and a way through the firewall too", fix)
}

// realm is where a token may be asked for: an absolute URL that is as secure
// as the registry's.
func (e *examination) realm() *url.URL {
	u, err := url.Parse(e.challenge.params["realm"])
	if !e.challenge.is("Bearer") || err != nil || u.User != nil || !isHost(u.Hostname()) {
		return nil
	}
	if u.Scheme == "https" || u.Scheme == "http" && e.at.Scheme == "http" {
		return u
	}
	return nil
}

// askPaths asks other paths without a login.
func (e *examination) askPaths(ctx context.Context) {
	repository := e.o.Repository
	if repository == "" {
		repository = "regward-doctor/none"
	}
	for _, path := range []string{"/v2/" + repository + "/manifests/latest", "/v2/_catalog?n=1"} {
		r, err := e.ask(ctx, http.MethodGet, e.url(path), nil, nil)
		if err != nil {
			e.skip("GET "+path+": "+reason(err), "C07")
			continue
		}
		if r.status == http.StatusUnauthorized && r.header.Get("Www-Authenticate") != "" {
			e.others = append(e.others, r)
		}
	}
}

// checkConstant: realm and service of every path must be the ping's (C07).
func (e *examination) checkConstant() {
	for _, r := range e.others {
		for _, c := range parseChallenges(r.header.Get("Www-Authenticate")) {
			if !c.is("Bearer") {
				continue
			}
			for _, p := range []string{"realm", "service"} {
				if c.params[p] != e.challenge.params[p] {
					e.problem("C07", fmt.Sprintf("the %s of GET %s is %s, that of GET /v2/ %s", p, r.url.Path, e.quote(c.params[p]), e.quote(e.challenge.params[p])),
						"regctl fails when it changes; docker and podman know the ping's alone", "answer the same realm and service on every path")
					return
				}
			}
			break
		}
	}
}
