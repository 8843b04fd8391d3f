package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

// checkWebhook asks the program about a login that nobody has, and reports
// whatever is no refusal. It asks again with another secret: where the answer is
// the same, a wrong secret would turn everybody away and nobody could tell why.
func checkWebhook(ctx context.Context, cfg *configs.Config, say reporter) {
	hook, err := buildWebhook(cfg, nil)
	if err != nil || hook == nil {
		if key := (*keyError)(nil); errors.As(err, &key) {
			say(configs.Error, key.path, key.err.Error(), "")
		}
		return
	}
	ctx, cancel := context.WithTimeout(ctx, onlineFor)
	defer cancel()
	const at = "auth.webhook"
	probe, err := hook.Probe(ctx, bareHosts(cfg.Hostname)[0])
	switch {
	case errors.Is(err, auth.ErrRejected), errors.Is(err, auth.ErrNotMine):
		checkSignature(probe, say)
	case err == nil:
		say(configs.Error, at+".url", "the program takes a made-up login: it would take any", "let it answer 401 to a wrong password, and 404 to a user it does not know")
	case probe.Status == http.StatusBadRequest && otherClock(probe.Date, "the program") != "": // what is signed looks old, or from the future
		say(configs.Error, at+".url", fmt.Sprintf("the program cannot be asked about logins: %v, and %s", err, otherClock(probe.Date, "the program")), setClock+", or the program's")
	default:
		path, fix := webhookFix(err, cfg.Auth.Webhook.URL, at)
		say(configs.Error, path, fmt.Sprintf("the program cannot be asked about logins: %v", err), fix)
	}
}

// checkSignature says whether a refusal is of the login rather than of us.
func checkSignature(p auth.WebhookProbe, say reporter) {
	switch {
	case p.Forged == http.StatusOK:
		say(configs.Error, "auth.webhook.secret", "the program takes a login that is signed with another secret: anybody who reaches it can guess passwords", "let it compare the signature before anything else, and answer 400 to a wrong one")
	case p.Forged != p.Status:
	case p.Status == http.StatusNotFound:
		say(configs.Error, "auth.webhook.url", "404 is the answer, even to what is signed with another secret: either nothing is at that URL, or the program looks at no signature",
			"check the path; the program should answer 400 to a wrong signature")
	default:
		say(configs.Warning, "auth.webhook.secret", fmt.Sprintf("%d is the answer, even to what is signed with another secret: either the program has another secret, or it looks at none, or it cannot be told", p.Status),
			"give both the same secret, and let the program answer 400 to a wrong signature")
	}
}

// webhookFix says which key helps against what kept the program from answering.
func webhookFix(err error, url, at string) (path, fix string) {
	if path, fix := tlsFix(err, at, at+".url"); path != "" {
		return path, fix
	}
	status := 0
	if e := (*auth.WebhookError)(nil); errors.As(err, &e) {
		status = e.Status
	}
	switch {
	case status == http.StatusBadRequest && strings.HasPrefix(url, "http:"):
		return at + ".url", "if it speaks TLS, write https://; if it does not take the signature, give it the same secret"
	case status == http.StatusBadRequest:
		return at + ".secret", "give the program the same secret; if it takes the signature, check its clock and ours"
	case status == 0 && strings.HasPrefix(url, "http:"):
		return at + ".url", "is it the program that listens there? If it speaks TLS, write https://"
	case 300 <= status && status < 400:
		return at + ".url", "write the URL that it sends to: a redirect is not followed, for the password would go along"
	case status == http.StatusMethodNotAllowed:
		return at + ".url", "it takes no POST there: check the path"
	case status >= 500 || status == http.StatusTooManyRequests:
		return at + ".url", "look into the program's own log"
	}
	return at + ".url", "to a login that nobody has it should answer 401, or 404; a good one is 200 with {\"user\": …, \"groups\": […]}"
}
