package main

import (
	"time"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

// buildWebhook is the program that is asked about logins, nil if there is none.
// tokens may be nil where nothing is signed. The error is a *keyError.
func buildWebhook(cfg *configs.Config, tokens *auth.Tokens) (*auth.Webhook, error) {
	w := &cfg.Auth.Webhook
	if w.URL == "" {
		return nil, nil
	}
	o := auth.WebhookOptions{
		URL:           w.URL,
		Secret:        w.Secret.Reveal(),
		CA:            w.CA,
		Timeout:       time.Duration(w.Timeout),
		CaseSensitive: cfg.Auth.CaseSensitive,
		Now:           time.Now,
	}
	if tokens != nil {
		o.Key = tokens.Derive("webhook proof")[0] // the same on every instance
	}
	hook, err := auth.NewWebhook(o)
	if err != nil {
		return nil, &keyError{"auth.webhook", err}
	}
	return hook, nil
}
