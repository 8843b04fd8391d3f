package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/proxy"
)

// sentNothing reports whether the client came without a login: a token for
// nobody is what it is given then.
func sentNothing(r *proxy.Refusal) bool {
	return r.Credential == "none" || r.Credential == "anonymous token" || r.Credential == ""
}

// likely says what is probably wrong, and what to do.
func likely(r *proxy.Refusal) string {
	login, secret := "docker login", "an imagePullSecret"
	if r.Host != "" {
		login, secret = login+" "+r.Host, secret+" for "+r.Host
	}
	switch r.Reason {
	case "no_credential":
		return "no credential sent: " + login + "; for a pod, " + secret
	case "wrong_password":
		return "the password typed or saved is wrong: " + login + " again; for a pod, renew its imagePullSecret"
	case "unknown_user":
		return "nobody has that name: is it spelled as the provider has it? For an issuer's token it is " + auth.OIDCUser + "; for a robot, robot-NAME"
	case "account_barred":
		return "the password may be right: whoever looks after the directory has to unlock or renew the account"
	case "token_expired":
		return "a job asked its issuer for a token too early: ask right before the login; is a clock wrong?"
	case "wrong_audience":
		return "the job's token is for somebody else: ask the issuer for one with the audience in auth.oidc"
	case "wrong_token":
		return "the token is not by an issuer of auth.oidc, or lacks what is required there; regward explain --user " + auth.OIDCUser + " --password-stdin says which"
	case "login_provider":
		return "whoever knows the login could not be asked: regward validate --online says what is wrong"
	case "bad_certificate":
		return "the client certificate on that machine is not good any more, or was never one for here: renew it, take it away, or " + login
	case "too_many_failed_logins":
		return "too many wrong passwords from there: find the job with the old password; the lock ends by itself"
	case "expired_robot":
		return "a robot has expired: regward token rotate NAME --expires 90d, and give its job the new secret"
	case "rotated_secret":
		return "a job still has a robot's old secret: give it the new one"
	case "robot_elsewhere":
		return "a robot came from outside its networks: run the job inside, or add the network to from"
	case "expired_token":
		return "the client went on with an old token: it should fetch a new one by itself; is its clock right?"
	case "ended_login":
		return "the login saved on that machine has ended: " + login + " again"
	case "revoked_token":
		return "the login was changed or taken away since: " + login + " again"
	case "invalid_token":
		return "the token is damaged or signed by another key: do several instances run without one token.key_file?"
	case "malformed_credential":
		return "what the client sent is no credential at all: docker logout, then " + login
	case "token_does_not_cover":
		return "the client asked for a token for something else; the rules would allow it"
	case "limit":
		return fmt.Sprintf("limit %q is used up: it fills by itself; regward explain --user ... --repository ... shows what counts", r.Limit)
	case "read_only":
		return "upstream.read_only is set: writing is off for everybody"
	case "upstream":
		if r.Status == http.StatusTooManyRequests {
			return "a limit of the upstream's, not of regward: wait, give it an account that has more, or put a cache in between"
		}
		return "the upstream did not answer as it should: see the log of that request id"
	case "overloaded":
		return "too many logins at once: the client should try again"
	case "not_allowed":
		if strings.Contains(r.Decision, " immutable for ") {
			return "an immutable tag is pushed once: push under a new one, or have it moved by somebody whom that rule does not mean"
		}
		if strings.Contains(r.Decision, ", only for tags ") {
			return "it is the tag: rules let " + r.User + " do that under others; push under one of those, or add this one to the rule's tags"
		}
		rule, _, denied := strings.Cut(r.Decision, " denies ")
		if denied && !(sentNothing(r) && strings.HasSuffix(r.Decision, " to anonymous")) {
			return "no allow beats a deny: make " + rule + " narrower, unless this is meant"
		}
		if sentNothing(r) {
			return "no login was sent: " + login + "; or, for a pod, it lacks " + secret
		}
		return fmt.Sprintf("%s is logged in and has no right: add a rule, or %[1]s to a group that has one in `groups`", r.User)
	}
	return "nothing wrong with rights or limits: the request itself was not understood"
}

// credentialWords keeps the repairs apart: nothing sent, a wrong one, an
// expired one, or a good one without the right.
func credentialWords(r *proxy.Refusal) string {
	user := r.User
	if user == "" {
		user = "anonymous"
	}
	switch {
	case sentNothing(r):
		return "user: anonymous (no credential sent)"
	case strings.HasPrefix(r.Credential, "wrong password: ") && slices.Contains([]string{"account_barred", "token_expired", "wrong_audience", "wrong_token"}, r.Reason):
		return "user: " + strings.TrimPrefix(r.Credential, "wrong password: ") + " (" + strings.ReplaceAll(r.Reason, "_", " ") + ")"
	case r.Reason == "wrong_password" || strings.HasPrefix(r.Credential, "wrong password"):
		return "user: " + strings.TrimPrefix(r.Credential, "wrong password: ") + " (wrong password)"
	case strings.HasPrefix(r.Credential, "locked out: "):
		return "user: " + strings.TrimPrefix(r.Credential, "locked out: ") + " (locked out)"
	case r.Credential == "basic" && r.User == "":
		return "user: not known (the login was not checked)"
	case r.Credential == "basic" || r.Credential == "token":
		return "user: " + user + " (credential of user " + user + ")"
	}
	return "user: " + user + " (" + r.Credential + ")"
}

// refusalWord is the verdict in one word.
func refusalWord(r *proxy.Refusal) string {
	switch {
	case r.Status == http.StatusTooManyRequests:
		return "throttled"
	case r.Status >= 500:
		return "failed"
	}
	return "denied"
}
