package proxy

import (
	"encoding/hex"
	"hash"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
)

// sharing is what a request at an upstream with shared_blobs keeps on its way:
// an upstream that gives any layer under any image name.
type sharing struct {
	known    *repoBlobs // of the request's repository, from before the upstream was asked
	manifest references // of a manifest that is pushed
	content  *hashing   // of a blob pushed in one piece
}

// mustBeServedHere refuses a blob that no manifest of the request's repository
// refers to, where the upstream gives any layer under any image name
// (shared_blobs): in the upstream's own words, and before it is asked, so that
// nobody learns what it has elsewhere. A mount from a repository without the
// blob becomes a plain upload (P14).
func (x *exchange) mustBeServedHere() error {
	if s := x.up.settings.SharedBlobs; s == nil || !*s {
		return nil
	}
	x.shared = &sharing{known: x.known(x.name)}
	q := &x.req
	switch {
	case q.Kind == KindBlob:
		missing, err := x.missing(x.shared.known, q.Reference)
		if err == nil && missing != "" {
			err = refuse(http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		}
		if err == nil && q.Method == http.MethodDelete {
			err = refuse(http.StatusMethodNotAllowed, "UNSUPPORTED", "layers are shared between repositories here: deleting one would take it out of all of them. Delete the manifests that refer to it").
				with("Allow", "GET, HEAD")
		}
		return err
	case q.Kind == KindUploadStart && q.Mount != "":
		// Whether it is not there or nobody could find out: 202 is the only
		// refusal all clients survive.
		if missing, err := x.missing(x.known(x.from), q.Mount); err != nil || missing != "" {
			q.Mount, q.From, x.from = "", "", ""
		}
	}
	return nil
}

// missing is the first of the blobs that a repository of the request's
// upstream does not have, "" if there is none.
func (x *exchange) missing(r *repoBlobs, blobs ...string) (string, error) {
	x.agree(r, blobs)
	known := true
	for _, b := range blobs {
		known = known && x.up.blobs.serves(r, keyOf(b), x.start)
	}
	if known {
		return "", nil
	}
	who, err := x.asker(r.name)
	if err != nil {
		return "", err
	}
	return x.up.findBlobs(x.r.Context(), r.name, blobs, who)
}

// asker is the caller, where a repository is looked through for them.
func (x *exchange) asker(name string) (asker, error) {
	out := outgoing{Method: http.MethodGet, Scope: "repository:" + name + ":pull", User: x.who.Name}
	if err := x.credentialFor(x.up, &out); err != nil {
		return asker{}, err
	}
	return asker{Credential: out.Credential, TurnedAway: out.TurnedAway, User: out.User, RequestID: x.id}, nil
}

// admitManifest refuses a manifest that is pushed and refers to what is not
// served in its repository already: it would be a key to it.
func (x *exchange) admitManifest(manifest []byte) error {
	if x.shared == nil {
		return nil
	}
	refs, err := readManifest(manifest)
	if err != nil {
		return refuse(http.StatusBadRequest, "MANIFEST_INVALID", "the manifest cannot be read: "+err.Error())
	}
	blob, err := x.missing(x.shared.known, refs.Blobs...)
	if err != nil {
		return err
	}
	if blob != "" {
		return refuse(http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", "the manifest refers to "+blob+", which is not in "+x.req.Repository+
			": push its layers and its config there first, then the manifest")
	}
	child, err := x.missingChild(refs.Manifests)
	if err != nil {
		return err
	}
	if child != "" {
		return refuse(http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", "the index refers to the manifest "+child+", which is not in "+x.req.Repository+
			": push the images it lists there first, then the index")
	}
	x.shared.manifest = refs
	return nil
}

func (x *exchange) missingChild(manifests []string) (string, error) {
	if len(manifests) == 0 {
		return "", nil
	}
	who, err := x.asker(x.name)
	if err != nil {
		return "", err
	}
	return x.up.lacksManifest(x.r.Context(), x.shared.known, manifests, who)
}

// proves has the body of a blob that comes with its digest in one request
// hashed on its way: a registry that has the blob may say 201 to any body.
func (x *exchange) proves(body io.Reader) io.Reader {
	if x.shared == nil || x.req.Kind != KindUploadStart {
		return body
	}
	algorithm, want, _ := strings.Cut(x.req.Query.Digest, ":")
	sum := digestSum(algorithm)
	if sum == nil {
		return body
	}
	x.shared.content = &hashing{from: body, sum: sum(), want: want}
	return x.shared.content
}

// hashing is a body that is hashed as it is read.
type hashing struct {
	from io.Reader
	sum  hash.Hash
	want string
	ok   atomic.Bool // it was read to its end, and is what it should be
}

func (h *hashing) Read(p []byte) (int, error) {
	n, err := h.from.Read(p)
	h.sum.Write(p[:n])
	if err == io.EOF {
		h.ok.Store(hex.EncodeToString(h.sum.Sum(nil)) == h.want)
	}
	return n, err
}

// learns reports whether the manifest in resp shall be looked into for what
// belongs to its repository: not again what was a moment ago.
func (x *exchange) learns(resp *http.Response) bool {
	if x.shared == nil {
		return false
	}
	digest := manifestDigest(resp.Header, x.req.Reference)
	return digest == "" || !x.up.blobs.wasRead(x.shared.known, digest, x.start)
}

// learn keeps what a manifest that was pulled refers to. One that cannot be
// understood refers to nothing; but it may only be encoded for the client.
func (x *exchange) learn(resp *http.Response, refs references, err error) {
	digest := manifestDigest(resp.Header, x.req.Reference)
	if err != nil && resp.Header.Get("Content-Encoding") != "" {
		if digest != "" {
			x.up.blobs.see(x.shared.known, digest, x.start)
		}
		return
	}
	x.up.blobs.learn(x.shared.known, digest, refs, x.start)
	if len(refs.Manifests) > 0 {
		x.up.blobs.expect(x.shared.known, refs.Manifests, x.start)
	}
}

// noteShared keeps what the upstream's answer says about what belongs to the
// repository, before the client has the answer.
func (x *exchange) noteShared(resp *http.Response) {
	if x.shared == nil {
		return
	}
	q, k := &x.req, x.up.blobs
	switch {
	case q.Kind == KindManifest && q.Method == http.MethodPut:
		if resp.StatusCode == http.StatusCreated {
			digest := manifestDigest(resp.Header, q.Reference)
			k.learn(x.shared.known, digest, x.shared.manifest, x.start)
			k.named(x.shared.known, x.shared.manifest, x.start)
			x.tellNamed(digest, x.shared.manifest.Blobs)
		}
	case q.Kind == KindManifest && !writes(q.Method):
		digest := manifestDigest(resp.Header, q.Reference)
		if digest != "" && (resp.StatusCode == http.StatusNotModified || resp.StatusCode == http.StatusOK && q.Method == http.MethodHead) {
			k.see(x.shared.known, digest, x.start)
		}
	case resp.StatusCode != http.StatusCreated:
	case q.Kind == KindUpload && q.Method == http.MethodPut && q.Query.Digest != "":
		x.uploaded(q.Query.Digest)
	case q.Kind == KindUploadStart && q.Mount != "":
		x.uploaded(q.Mount)
	case q.Kind == KindUploadStart && x.shared.content != nil && x.shared.content.ok.Load():
		x.uploaded(q.Query.Digest)
	}
}

// forget drops what the deletion of a manifest makes doubtful, whatever came of
// it: knowledge that outlives its reason would open what was closed
// (CVE-2026-35172).
func (x *exchange) forget() {
	if x.shared != nil && x.req.Kind == KindManifest && x.req.Method == http.MethodDelete {
		x.up.blobs.forget(x.name)
		x.tellDeleted()
	}
}
