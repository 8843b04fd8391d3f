package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

func isCertificate(err error) bool {
	var verify *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	return errors.As(err, &verify) || errors.As(err, &unknown)
}

// checkCORS asks as a browser does for a page of Options.Origin.
func (e *examination) checkCORS(ctx context.Context) {
	if e.o.Origin == "" {
		if allowed := e.ping.header.Get("Access-Control-Allow-Origin"); allowed != "" {
			e.note("cors", "answers are open to web pages of "+e.quote(allowed), "", "")
		}
		e.skip("no --origin: only web pages need it", "cors")
		return
	}
	fix := "allow it: regward: cors: {origins: [" + e.o.Origin + "]}; distribution: http.headers: Access-Control-Allow-Origin: [" + e.o.Origin + "], and a proxy in front that answers OPTIONS without a login"
	r, err := e.ask(ctx, http.MethodOptions, e.url("/v2/"), http.Header{
		"Origin":                         {e.o.Origin},
		"Access-Control-Request-Method":  {http.MethodGet},
		"Access-Control-Request-Headers": {"authorization"},
	}, nil)
	if err != nil {
		e.problem("cors", "the preflight OPTIONS /v2/: "+reason(err), "the browser refuses the page", fix)
		return
	}
	if r.status < 200 || r.status >= 300 {
		e.problem("cors", "the preflight OPTIONS /v2/ is answered "+e.said(r), "a browser sends it without a login and takes nothing but 2xx", fix)
		return
	}
	if !e.allowsOrigin("the preflight", r, fix) {
		return
	}
	if !strings.Contains(strings.ToLower(strings.Join(r.header.Values("Access-Control-Allow-Headers"), ",")), "authorization") {
		e.problem("cors", "the preflight does not allow the header Authorization", "a page can send neither login nor token", "Access-Control-Allow-Headers: Authorization")
		return
	}
	answer, err := e.ask(ctx, http.MethodGet, e.url("/v2/"), http.Header{"Origin": {e.o.Origin}}, nil)
	if err != nil || !e.allowsOrigin("GET /v2/", answer, fix) {
		return
	}
	exposed := strings.ToLower(strings.Join(answer.header.Values("Access-Control-Expose-Headers"), ","))
	if answer.status == http.StatusUnauthorized && !strings.Contains(exposed, "www-authenticate") && exposed != "*" {
		e.warn("cors", "the page may not read WWW-Authenticate", "it cannot find the token service by itself", "Access-Control-Expose-Headers: WWW-Authenticate, Link, Location, Range, Docker-Content-Digest")
		return
	}
	e.ok("cors", "pages of "+e.o.Origin+" are let in")
}

// allowsOrigin judges the one header that decides.
func (e *examination) allowsOrigin(of string, r reply, fix string) bool {
	values := r.header.Values("Access-Control-Allow-Origin")
	switch {
	case len(values) > 1:
		e.problem("cors", fmt.Sprintf("%s has %d Access-Control-Allow-Origin fields", of, len(values)), "browsers refuse more than one: registry and proxy both add it", "let one of them do it (nginx: proxy_hide_header Access-Control-Allow-Origin;)")
		return false
	case len(values) == 1 && (values[0] == "*" || values[0] == e.o.Origin):
		return true
	}
	e.problem("cors", of+" does not allow pages of "+e.o.Origin, "the browser keeps the answer from the page", fix)
	return false
}

// noteRates keeps what rate headers said last.
func (e *examination) noteRates(h http.Header) {
	limit, left := h.Get("Ratelimit-Limit"), h.Get("Ratelimit-Remaining")
	if limit == "" {
		limit, left = h.Get("X-Ratelimit-Limit"), h.Get("X-Ratelimit-Remaining")
	}
	if limit == "" && left == "" {
		return
	}
	e.limits = fmt.Sprintf("limit %s, remaining %s", limit, left)
	if source := h.Get("Docker-Ratelimit-Source"); source != "" {
		e.limits += ", counted for " + source
	}
}

// checkRates shows what a pull would be counted against: a HEAD costs nothing
// where headers are Docker Hub's.
func (e *examination) checkRates(ctx context.Context) {
	if e.o.Repository != "" && e.pull != denied {
		path := "/v2/" + e.o.Repository + "/manifests/" + cmp.Or(e.tag, "latest")
		h := e.credentials()
		h.Set("Accept", "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json")
		r, err := e.ask(ctx, http.MethodHead, e.url(path), h, nil)
		if err == nil && r.status == http.StatusTooManyRequests {
			e.limited("HEAD "+path, r, "wait, log in (limits per user are higher), or pull through a cache")
			return
		}
	}
	switch {
	case e.limits != "":
		e.note("rate", "the registry counts: "+e.limits, "when nothing remains, pulls end with toomanyrequests, which is no login problem", "")
	case e.o.Repository == "":
		e.skip("no --repository: some registries tell of limits only with images", "rate")
	default:
		e.ok("rate", "no limit is told of")
	}
}

func (e *examination) limitWords() string {
	if e.limits == "" {
		return ""
	}
	return " (" + e.limits + ")"
}
