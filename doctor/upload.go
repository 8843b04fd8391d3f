package doctor

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// trial is the size of the body that is sent into the upload: more than the
// one megabyte that nginx takes by itself, little enough for a slow line.
const trial = 8 << 20

// checkUpload starts an upload, looks where it leads, sends one chunk and
// cancels it: nothing is stored.
func (e *examination) checkUpload(ctx context.Context) {
	if why := e.mayNotUpload(); why != "" {
		e.skip(why, "location", "body")
		return
	}
	start := e.url("/v2/" + e.o.Repository + "/blobs/uploads/")
	r, err := e.ask(ctx, http.MethodPost, start, e.credentials(), nil)
	if err != nil {
		e.problem("upload", "POST "+place(start)+": "+reason(err), "no push begins", "look into the registry's log")
		e.skip("no upload was started", "location", "body")
		return
	}
	if r.status != http.StatusAccepted {
		e.sayNotStarted(r)
		e.skip(fmt.Sprintf("no upload was started: %d", r.status), "location", "body")
		return
	}
	at := e.checkLocation(r)
	if at == nil {
		e.skip("the upload's place is not known, so it was not cancelled; the registry forgets it by itself", "body")
		return
	}
	// Whatever happens meanwhile, even Ctrl-C: what was started is cancelled.
	defer func() { e.cancel(context.WithoutCancel(ctx), at) }()
	if next := e.sendChunk(ctx, at); next != nil {
		at = next
	}
}

func (e *examination) mayNotUpload() string {
	switch {
	case e.o.User == "":
		return "no --user: nothing is uploaded without a login"
	case e.o.Repository == "":
		return "no --repository to upload to"
	case !e.asUser:
		return "there is no login"
	case e.pull == denied, e.push == denied:
		return e.o.User + " may not push to " + e.o.Repository
	case e.token == "" && !e.basic:
		return "there is no token"
	}
	return ""
}

func (e *examination) sayNotStarted(r reply) {
	what := fmt.Sprintf("POST /v2/%s/blobs/uploads/ is answered %s", e.o.Repository, e.said(r))
	switch {
	case r.is(http.StatusUnauthorized, http.StatusForbidden) && e.push == granted:
		e.problem("scope", what, "the token grants push, and the registry refuses it", "look into the registry's log; a proxy may allow GET alone (nginx: limit_except)")
	case r.is(http.StatusUnauthorized, http.StatusForbidden):
		e.note("scope", fmt.Sprintf("%s may not push to %s: %s", e.o.User, e.o.Repository, e.said(r)), "a push ends with: requested access to the resource is denied", "if pushes are meant, give the account write permission")
	case r.is(http.StatusNotFound):
		e.note("upload", what, "some registries want a repository or project to be made before the first push (ECR, Harbor)", "make it there")
	case r.status == http.StatusMethodNotAllowed:
		e.problem("upload", what, "something on the way, or a registry that is a cache, takes no POST", "nginx: no limit_except in location /v2/; push to the registry itself, not to its cache")
	case r.status == http.StatusTooManyRequests:
		e.limited("POST /v2/"+e.o.Repository+"/blobs/uploads/", r, "wait")
	case r.status >= 300 && r.status < 400:
		e.problem("upload", what, "a redirect of a POST: docker and podman cannot repeat the body", "answer pushes in place (nginx: no return 301 or rewrite ... redirect for /v2/)")
	default:
		e.problem("upload", what, "no push begins", "look into the registry's log (storage full, read only?)")
	}
}

// checkLocation judges where an upload is said to go on. What it returns is on
// the registry's own host, or nil: a credential goes nowhere else.
func (e *examination) checkLocation(r reply) *url.URL {
	text := r.header.Get("Location")
	u, err := r.url.Parse(text)
	if text == "" || err != nil {
		e.problem("location", "an upload is answered without a Location", "no client knows where to send the layer", "let the header pass (nginx: no proxy_hide_header Location)")
		return nil
	}
	right := true
	wrong := func(what, why, fix string) {
		e.problem("location", "uploads are sent to "+place(u)+": "+what, why, fix)
		right = false
	}
	hosts := "; nginx: proxy_set_header Host $http_host; distribution: http.host: " + e.at.Origin() + ", or http.relativeurls: true"
	switch {
	case u.Scheme != e.at.Scheme && u.Scheme == "http":
		wrong("http, not https", "docker push goes there in clear text, and ends in a timeout, a redirect loop or unauthorized; pulls work",
			"nginx: proxy_set_header X-Forwarded-Proto https; distribution: http.host: "+e.at.Origin()+", or http.relativeurls: true")
	case u.Scheme != e.at.Scheme:
		wrong(u.Scheme+", not "+e.at.Scheme, "clients follow it, and find nobody there", "X-Forwarded-Proto has to say how clients come"+hosts)
	case !strings.EqualFold(u.Hostname(), e.at.Name):
		wrong("another host", "clients send the layer past the proxy, with its token or without a login", "X-Forwarded-Host and Host have to be what clients ask for"+hosts)
	case portOf(u) != e.at.Port:
		wrong("another port", "clients find nobody there, or somebody else", "the Host header lost the port: nginx: proxy_set_header Host $http_host; (not $host)"+strings.Replace(hosts, "; nginx: proxy_set_header Host $http_host", "", 1))
	case e.at.Path != "" && strings.HasPrefix(u.Path, "/v2/"):
		e.note("location", "uploads go on at "+place(u)+", without the path "+e.at.Path, "the registry does not know of its path", "a proxy that adds it to requests has to take care of Location too; regward does")
		right = false
		u.Path, u.RawPath = e.at.Path+u.Path, ""
	case !strings.HasPrefix(u.Path, e.at.Path+"/v2/"):
		e.warn("location", "uploads go on outside /v2/: "+place(u), "a proxy that passes /v2/ alone cuts them", "pass that path too (nginx: location / { proxy_pass ...; })")
		right = false
	}
	if right {
		e.ok("location", "uploads go on at "+place(u.ResolveReference(&url.URL{Path: "."})))
	}
	own := *u
	own.Scheme, own.Host, own.User = r.url.Scheme, r.url.Host, nil
	return &own
}

// zeros is a body of unknown length, as docker sends layers.
type zeros struct {
	left int64
	sent int64
}

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), z.left))
	clear(p[:n])
	z.left -= int64(n)
	z.sent += int64(n)
	return n, nil
}

// sendChunk tries whether a body gets through. It returns where the upload
// goes on after it.
func (e *examination) sendChunk(ctx context.Context, at *url.URL) *url.URL {
	h := e.credentials()
	h.Set("Content-Type", "application/octet-stream")
	body := &zeros{left: trial}
	began := e.o.Now()
	r, err := e.ask(ctx, http.MethodPatch, at, h, body)
	if err != nil {
		e.sayCut(err)
		return nil
	}
	e.skip("whether a proxy stores each body before it passes it on cannot be seen from outside; nginx: proxy_request_buffering off", "buffering")
	if !r.is(http.StatusAccepted, http.StatusNoContent) {
		e.sayBody(r)
		return nil
	}
	if got, ok := received(r); ok && got < trial {
		e.problem("body", fmt.Sprintf("%d bytes were sent, and %d arrived", trial, got), "something on the way cuts bodies: pushes end with a wrong digest", "look at the limits of every proxy on the way (nginx: client_max_body_size 0;)")
		return e.checkLocation(r)
	}
	e.ok("body", fmt.Sprintf("a chunk of %d MiB without a length got through in %v", trial>>20, e.o.Now().Sub(began).Round(1e6)))
	return e.checkLocation(r)
}

// received is how much a registry says it has: Range: 0-1048575.
func received(r reply) (int64, bool) {
	_, last, ok := strings.Cut(strings.TrimPrefix(r.header.Get("Range"), "bytes="), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	return n + 1, ok && err == nil
}

func (e *examination) sayCut(err error) {
	what := fmt.Sprintf("a chunk of %d MiB: %s", trial>>20, reason(err))
	if isTimeout(err) {
		e.problem("body", what, fmt.Sprintf("it did not get through in %v: the line is slow, or something on the way holds bodies back", e.o.Transfer), "nginx: proxy_request_buffering off; client_body_timeout and proxy_read_timeout longer than a layer takes")
		return
	}
	e.problem("body", what, "something on the way ends the connection in the middle of a body: pushes end with broken pipe or connection reset",
		"nginx: client_max_body_size 0; look into the log of every proxy on the way")
}

// sayBody judges the answer to the chunk.
func (e *examination) sayBody(r reply) {
	what := fmt.Sprintf("a chunk of %d MiB is answered %s", trial>>20, e.said(r))
	switch r.status {
	case http.StatusRequestEntityTooLarge:
		e.problem("body", what, "a proxy on the way limits bodies: layers above the limit are never pushed", "nginx: client_max_body_size 0; ingress-nginx: nginx.ingress.kubernetes.io/proxy-body-size: \"0\"; Apache: LimitRequestBody 0")
	case http.StatusLengthRequired, http.StatusNotImplemented:
		e.problem("body", what, "something on the way takes no Transfer-Encoding: chunked, and docker sends layers so", "nginx: proxy_http_version 1.1; proxy_request_buffering off; uwsgi and old proxies: let them pass chunked bodies")
	case http.StatusExpectationFailed:
		e.problem("body", what, "something on the way does not know Expect: 100-continue", "let it pass the header on")
	case http.StatusRequestTimeout, http.StatusBadGateway, http.StatusGatewayTimeout, http.StatusServiceUnavailable:
		e.problem("body", what, "a proxy gives up while the layer is on its way", "nginx: proxy_request_buffering off; proxy_read_timeout 900s; its error.log says what went wrong; a full disk for buffers is one cause")
	case http.StatusUnauthorized, http.StatusForbidden:
		e.problem("body", what, "the upload was begun with the same login: the proxy drops Authorization on PATCH, or the session belongs to another instance", "pass Authorization with every method; several instances need one secret (distribution: http.secret)")
	case http.StatusNotFound:
		e.problem("body", what, "the upload that has just begun is not known: several instances do not share it", "one storage and one http.secret for all instances of distribution, or sticky sessions")
	default:
		e.problem("body", what, "pushes fail here", "look into the registry's log")
	}
}

// cancel ends the upload. distribution wants the right to delete for that,
// which other registries do not know: it is asked for only where it is wanted.
func (e *examination) cancel(ctx context.Context, at *url.URL) {
	r, err := e.ask(ctx, http.MethodDelete, at, e.credentials(), nil)
	if err == nil && e.token != "" && r.is(http.StatusUnauthorized, http.StatusForbidden) {
		if token, ok := e.tokenFor(ctx, e.realm(), true, e.scope("pull,push,delete")); ok {
			e.token = token
			r, err = e.ask(ctx, http.MethodDelete, at, e.credentials(), nil)
		}
	}
	const why, fix = "nothing refers to what it holds, and the registry removes it after a while", "distribution: storage.maintenance.uploadpurging, on by default"
	switch {
	case err != nil:
		e.note("upload", "the upload that was started could not be cancelled: "+reason(err), why, fix)
	case r.status >= 200 && r.status < 300:
		e.ok("upload", "an upload was started and cancelled; nothing is stored")
	case r.status == http.StatusNotFound:
		e.ok("upload", "an upload was started; the registry had forgotten it when it was cancelled")
	default:
		e.note("upload", "the upload that was started could not be cancelled: "+e.said(r), why, fix)
	}
}
