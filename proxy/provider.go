package proxy

import (
	"fmt"
	"slices"

	"github.com/regward/regward/auth"
)

// provider checks logins, and knows which identities it has proven.
type provider struct {
	auth.Authenticator
	current []func(id *auth.Identity) bool
}

// vouches reports whether it proved id, and what proved it still stands. It
// does not allocate.
func (p *provider) vouches(id *auth.Identity) bool {
	if p == nil {
		return false
	}
	for _, current := range p.current {
		if current != nil && current(id) {
			return true
		}
	}
	return false
}

// prepareLogins makes the providers: that of passwords, which is a file, an
// upstream or first the one and then the other, and one for each upstream in
// passthrough.
//
// A name is proven by one of them and nobody else. Two registries may both have
// an ann, and who can make accounts at one must not become the other's: an
// upstream in passthrough takes its own people only. Where nobody else knows
// passwords, the first such upstream that a login without a scope leads to
// (T35), or else the first of the hostname, proves names for the rest as well.
func (h *Handler) prepareLogins(s *Snapshot) error {
	if s.Logins != nil {
		s.passwords = &provider{s.Logins, []func(*auth.Identity) bool{s.Current}}
	}
	asked := s.LoginUpstream == ""
	for _, b := range s.backends {
		if b.settings.Passthrough {
			b.logins = s.asking(b)
		}
		if s.LoginUpstream != "" && b.settings.Name == s.LoginUpstream {
			asked = true
			s.passwords = s.passwords.then(s.asking(b))
		}
	}
	if !asked {
		return fmt.Errorf("auth.upstream: there is no upstream %q", s.LoginUpstream)
	}
	s.others = map[string]*provider{}
	for _, host := range s.names {
		s.others[host] = s.passwords
		if s.passwords != nil {
			continue
		}
		order := s.places.On(host)
		if at := s.places.Default(host); at >= 0 {
			order = append([]int{at}, order...)
		}
		if i := slices.IndexFunc(order, func(at int) bool { return s.backends[at].logins != nil }); i >= 0 {
			s.others[host] = s.backends[order[i]].logins
		}
	}
	s.addRobots()
	return nil
}

// addRobots puts robots in front of who checks passwords, but for upstreams in
// passthrough: nobody there knows them.
func (s *Snapshot) addRobots() {
	if s.Robots == nil {
		return
	}
	robots := &provider{s.Robots, []func(*auth.Identity) bool{s.Robots.Current}}
	s.passwords = robots.then(s.passwords)
	for host, p := range s.others {
		s.others[host] = robots.then(p)
	}
}

// asking is the provider that asks an upstream. What it proves says by which
// key; those of an older one still stand (as the tokens that carry them do).
func (s *Snapshot) asking(b *backend) *provider {
	var accounts []string
	for _, u := range s.Upstreams {
		if u.Username != "" {
			accounts = append(accounts, u.Username)
		}
	}
	p := &provider{}
	for i, key := range s.Tokens.Derive("upstream login proof") {
		l := b.Upstream.logins(accounts, s.CaseSensitive, key)
		if i == 0 {
			p.Authenticator = l
		}
		p.current = append(p.current, l.Current)
	}
	return p
}

// then asks p first and q next. What q proved of a name stands until p owns it.
func (p *provider) then(q *provider) *provider {
	if p == nil {
		return q
	}
	if q == nil {
		return p
	}
	both := &provider{auth.NewChain(p.Authenticator, q.Authenticator), slices.Clone(p.current)}
	for _, current := range q.current {
		if first, ok := p.Authenticator.(auth.Owner); ok {
			one := current
			current = func(id *auth.Identity) bool { return !first.Owns(id.Name) && one(id) }
		}
		both.current = append(both.current, current)
	}
	return both
}

// provider checks the logins for an upstream, or, with nil, those for none in
// particular. It is nil where nobody can log in.
func (s *Snapshot) provider(host string, b *backend) *provider {
	if b != nil && b.logins != nil {
		return b.logins
	}
	return s.others[host]
}

// checks is the provider for a login that comes for an upstream, as provider is,
// but for what is known here by its look: a robot's secret, an issuer's token.
// Those no upstream is shown; whoever has one is nobody at an upstream in
// passthrough.
func (s *Snapshot) checks(host string, b *backend, c auth.Credential) *provider {
	if s.knows(c) {
		return s.passwords
	}
	return s.provider(host, b)
}

func (s *Snapshot) knows(c auth.Credential) bool {
	logins, ok := s.Logins.(auth.Keeper)
	return s.Robots.Keeps(c) || ok && logins.Keeps(c)
}

// proves reports whether a name is one for this upstream: proven by who checks
// logins for it, and not by another upstream that has a user of that name.
func (s *Snapshot) proves(host string, b *backend, id *auth.Identity) bool {
	if id.ByCertificate() {
		return s.certified(b) && s.Certificates.Current(id)
	}
	return s.provider(host, b).vouches(id)
}

// provesAnywhere reports whether anybody still vouches for id.
func (s *Snapshot) provesAnywhere(id *auth.Identity) bool {
	if s.passwords.vouches(id) || s.Certificates.Current(id) {
		return true
	}
	for _, b := range s.backends {
		if b.logins.vouches(id) {
			return true
		}
	}
	return false
}
