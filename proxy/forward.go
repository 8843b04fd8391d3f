package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/regward/regward/auth"
)

// forward passes on what is allowed and brings back what the upstream answers.
func (x *exchange) forward() error {
	switch x.req.Kind {
	case KindPing: // answered here: it depends on no upstream (C17, C18)
		x.w.Header()["Content-Type"] = jsonType
		x.respond(http.StatusOK, []byte("{}"))
		return nil
	case KindCatalog:
		return x.catalog()
	}
	if err := x.mustBeServedHere(); err != nil {
		return err
	}
	defer x.release()
	out, err := x.outgoing()
	if x.body != nil {
		defer x.body.end()
	}
	if err != nil {
		return err
	}
	x.wait(out)
	ctx := x.r.Context()
	if x.unlock != nil { // a push that its client gives up may be done all the same: the next one waits for that
		ctx = context.WithoutCancel(ctx)
	}
	asked := time.Now()
	resp, err := x.up.do(ctx, out)
	x.upstreamTime = time.Since(asked)
	x.forget()
	x.release()
	if err != nil {
		return x.loginMayHelp(err)
	}
	defer resp.Body.Close()
	x.upstream = resp.StatusCode
	if err := x.checkAnswer(resp); err != nil {
		return err
	}
	return x.deliver(resp)
}

// loginMayHelp is what somebody without a login hears of a repository that an
// upstream in passthrough does not show to anybody (S11 is about logins of
// regward's own): with a login of theirs it may be there.
func (x *exchange) loginMayHelp(err error) error {
	var e *httpError
	if !x.up.settings.Passthrough || !x.who.Anonymous() || !errors.As(err, &e) || !e.hidden {
		return err
	}
	login := unauthorized("DENIED", x.deniedWords(auth.Decision{Access: x.repo}), scopeOf(x.req.Wants), "").because(reasonUpstream).from(e.cause)
	if x.who.Capped { // it came by a token
		login.authErr = "insufficient_scope"
	}
	return login
}

// outgoing builds what the upstream gets, from the parsed parts only (P07, K1).
func (x *exchange) outgoing() (*outgoing, error) {
	q := &x.req
	out := &outgoing{
		Method:      q.Method,
		Header:      requestHeader(x.r, q, x.addr.String()),
		Scope:       x.upstreamScope(),
		Blob:        q.Kind == KindBlob && (q.Method == http.MethodGet || q.Method == http.MethodHead),
		Final:       q.Kind == KindUpload && q.Method == http.MethodPut,
		Hostnames:   x.s.names,
		RequestID:   x.id,
		TraceParent: x.r.Header.Get("Traceparent"),
		User:        x.who.Name,
	}
	if q.Kind == KindUpload {
		up, err := x.up.uploads.open(q.Reference, x.repo.Name(), x.who.Name)
		if err != nil {
			return nil, err
		}
		x.upload = &up
		if out.URL, err = x.up.uploadURL(up.Target, q.Query.Digest); err != nil {
			return nil, err
		}
	} else {
		if err := x.openPage(); err != nil {
			return nil, err
		}
		if q.Kind == KindTags && x.renamed() {
			plainly(out.Header)
		}
		out.Path, out.RawQuery = q.upstream("", x.name, x.from)
	}
	if err := x.credentialFor(x.up, out); err != nil {
		return nil, err
	}
	return out, x.addBody(out)
}

// upstreamScope is what a token of the upstream's must cover, in its own names.
func (x *exchange) upstreamScope() string {
	switch q := &x.req; {
	case q.Method == http.MethodDelete && q.Kind != KindUpload:
		return "repository:" + x.name + ":delete"
	case q.Method == http.MethodDelete: // an upload given up: distribution takes that for a delete, others for a push
		return "repository:" + x.name + ":pull,push,delete"
	case q.Mount != "":
		return "repository:" + x.name + ":pull,push repository:" + x.from + ":pull"
	case q.Kind == KindUpload || q.Kind == KindUploadStart || writes(q.Method):
		return "repository:" + x.name + ":pull,push"
	}
	return "repository:" + x.name + ":pull"
}

// addBody lets the client's body through where the route has one.
func (x *exchange) addBody(out *outgoing) error {
	length := x.r.ContentLength
	switch {
	case !takesBody(&x.req):
		return nil
	case length == 0:
		return x.judgeManifest(out, http.NoBody)
	}
	x.body = newClientBody(x)
	body := io.Reader(x.body)
	if x.req.Kind == KindManifest {
		if length > maxManifest { // P26
			return refuse(http.StatusRequestEntityTooLarge, "SIZE_INVALID", "a manifest has at most "+strconv.Itoa(maxManifest>>20)+" MiB")
		}
		body = http.MaxBytesReader(nil, io.NopCloser(body), maxManifest)
		if x.judged() {
			return x.judgeManifest(out, body)
		}
	}
	// HTTP/1: the upstream may answer while the client still sends.
	_ = http.NewResponseController(x.w).EnableFullDuplex()
	out.Body, out.Length = x.proves(body), length
	return nil
}

// judged reports whether a manifest is looked at before it goes on.
func (x *exchange) judged() bool { return x.shared != nil || len(x.immutableTags()) > 0 }

// judgeManifest reads a manifest that is pushed, where that is to be looked at.
// What goes on is what was judged.
func (x *exchange) judgeManifest(out *outgoing, body io.Reader) error {
	if x.req.Kind != KindManifest || !x.judged() {
		return nil
	}
	manifest, err := io.ReadAll(body)
	if err != nil {
		return x.up.failed(x.r.Context(), errClientBody{err})
	}
	if err := x.admitManifest(manifest); err != nil {
		return err
	}
	if tags := x.immutableTags(); len(tags) > 0 {
		if err := x.mustNotMove(out, tags, manifest); err != nil {
			return err
		}
	}
	out.Body, out.Length = bytes.NewReader(manifest), int64(len(manifest))
	return nil
}

func (s *Settings) idle() time.Duration {
	if s.IdleTimeout <= 0 {
		return 2 * time.Minute
	}
	return s.IdleTimeout
}

// deliver writes the upstream's answer under client names.
func (x *exchange) deliver(resp *http.Response) error {
	h := x.w.Header()
	if err := x.mapLocation(h, resp); err != nil {
		return err
	}
	copyResponseHeader(h, resp.Header)
	x.showTheirs(resp.Header)
	if _, has := h["Content-Type"]; !has {
		h["Content-Type"] = nil // or net/http would guess one (R12)
	}
	if err := x.mapLink(h, resp); err != nil {
		dropEntity(h)
		return err
	}
	if x.nsUsed {
		h["Oci-Namespace"] = []string{x.req.Query.NS} // M01
	}
	x.digest = resp.Header.Get("Docker-Content-Digest")
	x.noteEvent(resp.StatusCode)
	x.noteShared(resp)
	switch {
	case x.pulled(resp):
		return x.deliverManifest(resp)
	case x.renamed() && x.req.Kind == KindTags && resp.StatusCode == http.StatusOK:
		return x.deliverTags(resp)
	case x.renamed() && resp.StatusCode >= 400 && isJSON(resp.Header):
		return x.deliverError(resp)
	}
	return x.stream(resp)
}

// mapLocation rewrites Location (R01-R08): uploads go on under an id of ours,
// what was made is named as the client names it.
func (x *exchange) mapLocation(h http.Header, resp *http.Response) error {
	loc := resp.Header.Get("Location")
	q := &x.req
	switch {
	case loc == "":
		return nil
	case redirects(resp.StatusCode):
		h["Location"] = []string{loc} // checked by the upstream side (R20)
		return nil
	case resp.StatusCode == http.StatusCreated:
		h["Location"] = []string{x.madeAt(resp)}
		return nil
	case q.Kind != KindUpload && q.Kind != KindUploadStart:
		return nil
	}
	next, err := x.up.resolveLocation(resp.Request.URL, loc)
	if err != nil {
		return err
	}
	up := upload{Repository: x.repo.Name(), Principal: x.who.Name, Start: x.start, Target: x.up.uploadTarget(next)}
	if x.upload != nil {
		up.Start = x.upload.Start
	}
	id, err := x.up.uploads.seal(up)
	if err != nil {
		return err
	}
	h["Location"] = []string{"/v2/" + q.Repository + "/blobs/uploads/" + id}
	return nil
}

// madeAt is where a new blob or manifest is (R08).
func (x *exchange) madeAt(resp *http.Response) string {
	q := &x.req
	digest := resp.Header.Get("Docker-Content-Digest")
	if !validDigest(digest) {
		digest = ""
	}
	if q.Kind == KindManifest {
		if digest == "" {
			digest = q.Reference
		}
		return "/v2/" + q.Repository + "/manifests/" + digest
	}
	for _, d := range []string{digest, q.Query.Digest, q.Mount} {
		if d != "" {
			return "/v2/" + q.Repository + "/blobs/" + d
		}
	}
	return "/v2/" + q.Repository + "/blobs/"
}

// pulled reports whether the answer is a manifest somebody pulled.
func (x *exchange) pulled(resp *http.Response) bool {
	return x.req.Kind == KindManifest && x.req.Method == http.MethodGet && resp.StatusCode == http.StatusOK
}

// deliverManifest streams a manifest. Where it is an index, what it names is
// free from now on, so that the pull it began can be finished (L02); and what
// it refers to is known to belong to the repository (shared_blobs).
func (x *exchange) deliverManifest(resp *http.Response) error {
	var free time.Time
	if x.s.countsPulls {
		free = x.h.free.pull(x)
	}
	index := x.s.countsPulls && isIndex(resp.Header.Get("Content-Type"))
	learn := x.learns(resp)
	if !index && !learn {
		return x.stream(resp)
	}
	body, whole := readAhead(resp)
	if !whole {
		return x.stream(resp)
	}
	refs, err := readManifest(body)
	if index {
		x.h.free.add(x, free, refs.Manifests[:min(len(refs.Manifests), maxChildren)]...)
	}
	if learn {
		x.learn(resp, refs, err)
	}
	return x.stream(resp)
}

func isIndex(contentType string) bool {
	return strings.HasPrefix(contentType, "application/vnd.oci.image.index") ||
		strings.HasPrefix(contentType, "application/vnd.docker.distribution.manifest.list")
}

// readAhead reads the body of a manifest before any of it goes on, since the
// client asks for what it names at once. The answer has it all the same; whole
// is false where it breaks off or is too large to be looked into.
func readAhead(resp *http.Response) (body []byte, whole bool) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	var rest io.Reader = failing{err}
	switch {
	case err == nil && len(body) <= maxManifest:
		rest, whole = bytes.NewReader(nil), true
	case err == nil:
		rest = resp.Body
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), rest), resp.Body}
	return body, whole
}

// failing is a body that breaks off.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func isDigest(reference string) bool { return strings.IndexByte(reference, ':') >= 0 }

// tagOf is the tag of a manifest request, "" for a digest.
func tagOf(q *Request) string {
	if q.Kind != KindManifest || isDigest(q.Reference) {
		return ""
	}
	return q.Reference
}

// actionOf is what a request does, in one word, for records.
func actionOf(q *Request) string {
	switch {
	case q.Kind == 0 || q.Kind == KindPing || q.Kind == KindUnknown:
		return ""
	case q.Kind == KindUpload || q.Kind == KindUploadStart:
		return auth.Push.String()
	case q.Method == http.MethodDelete:
		return auth.Delete.String()
	case writes(q.Method):
		return auth.Push.String()
	case q.Kind == KindCatalog:
		return auth.List.String()
	}
	return auth.Pull.String()
}
