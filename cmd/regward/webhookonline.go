package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

// checkWebhook asks the program about a login that nobody has, and reports
// whatever is no refusal.
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
	err = hook.Probe(ctx, bareHosts(cfg.Hostname)[0])
	switch {
	case errors.Is(err, auth.ErrRejected), errors.Is(err, auth.ErrNotMine):
		return
	case err == nil:
		say(configs.Error, at+".url", "the program takes a made-up login: it would take any", "let it answer 401 to a wrong password, and 404 to a user it does not know")
		return
	}
	path, fix := tlsFix(err, at, at+".url")
	if path == "" {
		path, fix = at+".url", "to a login that nobody has it should answer 401, or 404; a good one is 200 with {\"user\": …, \"groups\": […]}"
	}
	say(configs.Error, path, fmt.Sprintf("the program cannot be asked about logins: %v", err), fix)
}
