package proxy

import (
	"context"

	"github.com/regward/regward/auth"
)

// AskLogins asks whoever checks logins for an upstream of s, by its place, or with
// -1 those for a login alone, as a request to the hostname would. Nobody remembers
// or counts what comes of it but who is asked. Without a provider there is
// nothing.
func AskLogins(ctx context.Context, s Settings, hostname string, upstream int, c auth.Credential) ([]auth.Said, error) {
	h := New(Options{})
	snapshot, err := h.Prepare(s)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, b := range snapshot.backends {
			b.Close()
		}
	}()
	at := newSite(hostname)
	if upstream < 0 {
		upstream = snapshot.places.Default(at.name)
	}
	var b *backend
	if upstream >= 0 {
		b = snapshot.backends[upstream]
	}
	p := snapshot.checks(at.name, b, c)
	if p == nil {
		return nil, nil
	}
	c.Host = at.name
	return auth.Ask(ctx, p.Authenticator, c), nil
}
