package proxy

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/regward/regward/auth"
)

// immutableTag is a tag that a push names and that its caller may not move.
type immutableTag struct {
	tag string
	no  auth.Decision // if it is moved; Allowed where the rule is a dry run
}

// immutableTags are those of a push: its reference, and each of ?tag= (P01).
func (x *exchange) immutableTags() (list []immutableTag) {
	q := &x.req
	if q.Kind != KindManifest || q.Method != http.MethodPut {
		return nil
	}
	for i := range q.Wants {
		want := &q.Wants[i]
		if want.Action != auth.Push || slices.ContainsFunc(list, func(t immutableTag) bool { return t.tag == want.Tag }) {
			continue
		}
		if d, is := x.s.Policy.Immutable(&x.who, want); is {
			list = append(list, immutableTag{want.Tag, d})
		}
	}
	return list
}

// mustNotMove refuses a push that would move an immutable tag: one that is there
// and names another digest than that of the manifest, which is reckoned here and
// not believed. Where the upstream cannot be asked, nobody can know: 503. The
// tags are locked from here on until x.unlock, so that no other push comes
// between the look and the manifest.
//
// Of dry runs it only tells.
func (x *exchange) mustNotMove(out *outgoing, tags []immutableTag, manifest []byte) error {
	ctx, cancel := context.WithTimeout(x.r.Context(), x.h.tagPatience)
	defer cancel()
	var keys []tagKey
	for _, t := range tags {
		if !t.no.Allowed() {
			keys = append(keys, tagKey{x.up.settings.URL.String(), x.name, t.tag})
		}
	}
	if len(keys) > 0 {
		unlock, err := x.h.tagLocks.lock(ctx, keys)
		if err != nil {
			return x.unknownTag(tags[0].tag, err)
		}
		x.unlock = unlock
	}
	for _, t := range tags {
		there, err := x.digestOf(ctx, out, t.tag)
		switch {
		case t.no.Allowed() && (err != nil || there == "" || isDigestOf(there, manifest)):
		case t.no.Allowed():
			x.noteWouldDeny(t.no)
		case err != nil:
			return err
		case there == "" || isDigestOf(there, manifest):
		case !digestKnown(there):
			return x.unknownTag(t.tag, fmt.Errorf("the upstream names it by %s", short(there)))
		default:
			return x.immutable(t.no, "names another digest already, "+there+": push this one under another tag")
		}
	}
	return nil
}

// release lets the next push at the request's immutable tags.
func (x *exchange) release() {
	if x.unlock != nil {
		x.unlock()
	}
}

// immutable is the refusal to move or delete a tag. No other token would help
// (S03), and the client is told which rule, for whoever it asks.
func (x *exchange) immutable(d auth.Decision, why string) error {
	x.decision = d
	rule, _, _ := strings.Cut(d.Rule, " ") // "rules[3] at regward.yaml:31"
	what := "the tag " + d.Access.Tag + " of " + d.Access.Repository + " is immutable (" + rule + ") and " + why
	if d.Access.Tag == "" {
		what = "tags of " + d.Access.Repository + " are immutable (" + rule + "), and " + why
	}
	return refuse(http.StatusForbidden, "DENIED", what).because(reasonNotAllowed)
}

// unknownTag is for when nobody can tell whether a tag would be moved.
func (x *exchange) unknownTag(tag string, cause error) error {
	if x.r.Context().Err() != nil {
		return x.up.failed(x.r.Context(), cause)
	}
	return refuse(http.StatusServiceUnavailable, "UNAVAILABLE", "the tag "+tag+" of "+x.repo.Repository+
		" is immutable, and whether it is there already cannot be found out now; try again later").with("Retry-After", "5").from(cause)
}

// digestOf is what a tag of the request's repository names at the upstream, ""
// if it is not there. It is asked with what the push itself is sent with: what
// the upstream hides from that is not known to be absent. Errors are ready for
// the client.
func (x *exchange) digestOf(ctx context.Context, push *outgoing, tag string) (string, error) {
	for _, method := range []string{http.MethodHead, http.MethodGet} {
		resp, err := x.up.do(ctx, &outgoing{
			Method:     method,
			Path:       "/v2/" + x.name + "/manifests/" + tag,
			Header:     http.Header{"Accept": manifestTypes},
			Scope:      push.Scope,
			Credential: push.Credential,
			TurnedAway: push.TurnedAway,
			User:       push.User,
			RequestID:  push.RequestID,
		})
		var ours *httpError
		if errors.As(err, &ours) && push.Credential != "" && ours.status < 500 { // it is about their own login there
			return "", err
		}
		if err != nil {
			return "", x.unknownTag(tag, err)
		}
		digest, found, err := taggedDigest(resp)
		if err != nil {
			return "", x.unknownTag(tag, fmt.Errorf("upstream answered %s to %s of the tag: %w", resp.Status, method, err))
		}
		if found {
			return digest, nil
		}
	}
	return "", x.unknownTag(tag, errors.New("the upstream does not say which digest the tag names, nor that there is none"))
}

var errNoTag = errors.New("neither a manifest nor that there is none")

// taggedDigest reads the answer about a tag: the digest, or "" if there is no
// such tag; found is false where the answer to a HEAD does not say enough.
func taggedDigest(resp *http.Response) (digest string, found bool, err error) {
	defer drop(resp)
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return "", isRegistrys(resp), nil
	case resp.StatusCode != http.StatusOK || isPage(resp.Header):
		return "", false, errNoTag
	}
	if d := manifestDigest(resp.Header, ""); d != "" {
		return d, true, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	if err == nil && len(body) > maxManifest {
		err = errors.New("a manifest too large to be looked at")
	}
	if err != nil || len(body) == 0 {
		return "", false, err
	}
	sum := sha256.Sum256(body)
	return "sha256:" + hex.EncodeToString(sum[:]), true, nil
}

// isRegistrys reports whether a registry says that there is no such tag. A
// balancer whose registry is just being restarted answers 404 as well, with a
// page or a line of its own.
func isRegistrys(resp *http.Response) bool {
	if isJSON(resp.Header) || resp.Header.Get("Docker-Distribution-Api-Version") != "" {
		return true
	}
	var body struct{ Errors []json.RawMessage }
	err := json.NewDecoder(io.LimitReader(resp.Body, maxErrorBody)).Decode(&body)
	return err == nil && len(body.Errors) > 0
}

// digestSum is the hash of an algorithm; nil for one that is not known.
func digestSum(digest string) func() hash.Hash {
	switch algorithm, _, _ := strings.Cut(digest, ":"); algorithm {
	case "sha256":
		return sha256.New
	case "sha384":
		return sha512.New384
	case "sha512":
		return sha512.New
	}
	return nil
}

func digestKnown(digest string) bool { return digestSum(digest) != nil }

// isDigestOf reports whether digest is that of content.
func isDigestOf(digest string, content []byte) bool {
	sum := digestSum(digest)
	if sum == nil {
		return false
	}
	h := sum()
	h.Write(content)
	_, want, _ := strings.Cut(digest, ":")
	return hex.EncodeToString(h.Sum(nil)) == want
}
