package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// Probe is what `validate --online` wants to know of an upstream.
type Probe struct {
	Open   bool   // /v2/ answers 200 without a login (M3)
	Login  string // why the account is not good; "" if it is, or there is none
	Server string // the Server header of /v2/
}

// Probe asks the upstream without a login and, if there is an account, with it.
func (u *Upstream) Probe(ctx context.Context) (Probe, error) {
	status, header, err := u.login.ping(ctx, "")
	if err != nil {
		return Probe{}, err
	}
	p := Probe{Open: status == http.StatusOK, Server: header.Get("Server")}
	if status != http.StatusOK && status != http.StatusUnauthorized {
		return p, fmt.Errorf("/v2/ answers %d: is a registry there?", status)
	}
	err = u.check(ctx)
	var refused errLogin
	if errors.As(err, &refused) {
		p.Login, err = refused.reason, nil
	}
	return p, err
}

// check asks /v2/ with our credential, for readiness: nil if the upstream is
// there and takes it.
func (u *Upstream) check(ctx context.Context) error {
	l := u.login
	if reason := l.waiting(); reason != "" {
		return l.turnedDown(reason)
	}
	w, err := l.find(ctx)
	if err != nil {
		return err
	}
	value, _, err := l.authorization(ctx, w, "")
	if errors.Is(err, errNoAccess) && l.basic == "" {
		return nil // it is there, and an anonymous token without a scope is no right
	}
	if err != nil {
		return err
	}
	status, header, err := l.ping(ctx, value)
	switch {
	case err != nil:
		return err
	case status == http.StatusTooManyRequests, status == http.StatusUnauthorized && l.basic != "":
		l.forget("", value)
		return l.turnedDown(l.down("/v2/", status, header))
	case status >= 500:
		return fmt.Errorf("/v2/ answers %d", status)
	}
	l.up()
	return nil
}

// Behind are the upstreams of the snapshot, in the order of its settings.
func (s *Snapshot) Behind() []*Upstream {
	list := make([]*Upstream, len(s.backends))
	for i, b := range s.backends {
		list[i] = b.Upstream
	}
	return list
}

// Name is what records call the upstream.
func (u *Upstream) Name() string { return u.settings.Name }
