package doctor

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// checkScope compares what may be done with the repository with what was
// asked for: pull and push with a login, pull without.
func (e *examination) checkScope(ctx context.Context) {
	if e.o.Repository == "" {
		e.skip("no --repository", "scope")
		return
	}
	if e.token == "" && !e.basic && e.ping.status != http.StatusOK {
		e.skip("there is no login and no token", "scope")
		return
	}
	if e.asUser && e.token != "" {
		token, ok := e.tokenFor(ctx, e.realm(), true, e.scope("pull,push"))
		if !ok {
			e.skip("no token for the repository was given", "scope")
			e.token = ""
			return
		}
		e.token = token
	}
	e.pull, e.push = grants(e.token, e.o.Repository)
	if e.tryPull(ctx) {
		e.sayRights()
	}
}

// grants are those in the token, unknown if it is one that only its maker can
// read. The signature is the registry's business.
func grants(token, repository string) (pull, push verdict) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return unknown, unknown
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return unknown, unknown
	}
	var claims struct {
		Access *[]struct {
			Type    string   `json:"type"`
			Name    string   `json:"name"`
			Actions []string `json:"actions"`
		} `json:"access"`
	}
	if json.Unmarshal(payload, &claims) != nil || claims.Access == nil {
		return unknown, unknown
	}
	pull, push = denied, denied
	for _, a := range *claims.Access {
		if a.Type != "repository" || a.Name != repository {
			continue
		}
		all := slices.Contains(a.Actions, "*")
		if all || slices.Contains(a.Actions, "pull") {
			pull = granted
		}
		if all || slices.Contains(a.Actions, "push") {
			push = granted
		}
	}
	return pull, push
}

// tryPull asks for what a pull would: the token says what was granted, the
// registry what it is worth. It reports whether rights are left to be said.
func (e *examination) tryPull(ctx context.Context) bool {
	if e.pull == denied {
		return true
	}
	path := "/v2/" + e.o.Repository + "/tags/list?n=1"
	r, err := e.ask(ctx, http.MethodGet, e.url(path), e.credentials(), nil)
	switch {
	case err != nil:
		e.problem("scope", "GET "+path+": "+reason(err), "it could not be found out what may be done", "look into the registry's log")
	case r.status == http.StatusOK:
		e.pull, e.tag = granted, firstTag(r.body)
	case r.status == http.StatusNotFound:
		e.note("repository", e.o.Repository+" is not there, or is hidden: "+e.said(r), "a pull fails; a push makes it, at most registries", "")
	case r.status == http.StatusTooManyRequests:
		e.limited("GET "+path, r, "wait, or log in where limits are per user")
	case r.is(http.StatusUnauthorized, http.StatusForbidden) && e.pull == granted:
		e.problem("scope", fmt.Sprintf("the token grants pull on %s, and the registry answers %s", e.o.Repository, e.said(r)), "registry and token service do not agree", "the registry's own rules refuse what its token service grants: look into both")
		e.pull = denied
		return false
	case r.is(http.StatusUnauthorized, http.StatusForbidden):
		e.pull = denied
	case r.status >= 500:
		e.problem("scope", "GET "+path+" is answered "+e.said(r), "the registry answers pings and no questions about images: its storage, or what is behind the proxy, fails", "look into the registry's log")
	}
	return true
}

// firstTag is one that is there, "" for none.
func firstTag(body []byte) string {
	var list struct{ Tags []string }
	if json.Unmarshal(body, &list) != nil || len(list.Tags) == 0 || !tagName.MatchString(list.Tags[0]) {
		return ""
	}
	return list.Tags[0]
}

// sayRights words the two verdicts.
func (e *examination) sayRights() {
	who := "everybody"
	if e.asUser {
		who = e.o.User
	}
	switch {
	case e.pull == denied && e.asUser:
		e.problem("scope", fmt.Sprintf("%s is logged in and may not pull %s: asked for pull,push, granted %s", who, e.o.Repository, e.grantedWords()), "the password is right, a permission is missing; docker prints: requested access to the resource is denied",
			"give the account, or a group or project it is in, read permission on "+e.o.Repository+"; compare the name: some registries want a project or library/ in front")
	case e.pull == denied:
		e.note("scope", e.o.Repository+" needs a login: without one pull is not granted", "", "")
	case e.pull == granted && e.push == denied && e.asUser:
		e.note("scope", fmt.Sprintf("%s may pull %s and not push: asked for pull,push, granted %s", who, e.o.Repository, e.grantedWords()), "a push ends with: requested access to the resource is denied", "if pushes are meant, give the account write permission on "+e.o.Repository)
	case e.pull == granted:
		e.ok("scope", fmt.Sprintf("%s may %s %s", who, e.grantedWords(), e.o.Repository))
	}
}

func (e *examination) grantedWords() string {
	var words []string
	if e.pull == granted {
		words = append(words, "pull")
	}
	if e.push == granted {
		words = append(words, "push")
	}
	if len(words) == 0 {
		return "nothing"
	}
	return strings.Join(words, ",")
}
