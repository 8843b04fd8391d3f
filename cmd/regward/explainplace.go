package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

// place is where a repository is, for people: nothing but its name if there is
// one upstream that calls it so too.
type place struct {
	Upstream string `json:"upstream,omitempty"`            // name of the upstream that has it
	There    string `json:"upstream_repository,omitempty"` // what that calls it
	Known    string `json:"known_as,omitempty"`            // what rules, limits and logs call it, if it was written otherwise
}

// find says where a repository is; nil if it is held by no upstream.
func (x *explainer) find(repository string) (*configs.Upstream, place) {
	f, ok := x.cfg.Find(repository)
	if !ok {
		return nil, place{}
	}
	u := &x.cfg.Upstreams[f.Index]
	p := place{}
	if len(x.cfg.Upstreams) > 1 || f.Name != repository {
		p.Upstream, p.There = u.Name, f.Name
	}
	if f.Repository != repository && f.Full != repository {
		p.Known = f.Repository
	}
	return u, p
}

// words are lines such as "upstream hub has it as library/alpine".
func (p place) words() []string {
	var lines []string
	if p.Upstream != "" {
		lines = append(lines, fmt.Sprintf("upstream %s has it as %s", p.Upstream, p.There))
	}
	if p.Known != "" {
		lines = append(lines, "rules know it as "+p.Known)
	}
	return lines
}

// refusedBy says why nobody may do what rules may allow; "" if that is not so,
// or not known.
func (x *explainer) refusedBy(repository string, action auth.Action) string {
	u, _ := x.find(repository)
	switch {
	case x.cfg.Places() == nil:
		return ""
	case u == nil:
		return "no upstream holds " + repository
	case action != auth.Pull && u.ReadOnly != "":
		return fmt.Sprintf("upstream %s is read_only: %q", u.Name, u.ReadOnly)
	}
	return ""
}

// asked is the upstream that knows people's logins, nil if none is asked: with
// passthrough, the one that the repository is at, else the first such.
func (x *explainer) asked(repository string) *configs.Upstream {
	if u, _ := x.find(repository); u != nil && u.Passthrough() {
		return u
	}
	i := slices.IndexFunc(x.cfg.Upstreams, func(u configs.Upstream) bool {
		return u.Passthrough() || x.cfg.Auth.Upstream != "" && u.Name == x.cfg.Auth.Upstream
	})
	if i < 0 {
		return nil
	}
	return &x.cfg.Upstreams[i]
}

// ownAccount reports whether name is that of a login of regward's own, for
// which no upstream is asked.
func (x *explainer) ownAccount(name string) bool {
	return slices.ContainsFunc(x.cfg.Upstreams, func(u configs.Upstream) bool {
		return u.Username != "" && strings.EqualFold(u.Username, name)
	})
}

// whereLogins says where the caller's login is asked for; "" if that is
// htpasswd alone.
func (x *explainer) whereLogins(repository string) string {
	u := x.asked(repository)
	switch {
	case u == nil:
		return ""
	case x.ownAccount(x.caller.Name):
		return fmt.Sprintf("%s is a login of regward's own: it is refused, and no upstream is asked", x.caller.Name)
	case u.Passthrough():
		return fmt.Sprintf("the login goes on to upstream %s, which has to allow it too", u.Name)
	case len(askedBefore(&x.cfg.Auth)) > 0:
		return fmt.Sprintf("logins that %s does not know are asked of upstream %s", strings.Join(askedBefore(&x.cfg.Auth), ", "), u.Name)
	}
	return fmt.Sprintf("logins are asked of upstream %s", u.Name)
}

// recorded is what logs call a repository, and the one hostname it is for, as
// far as the configuration says; else the name as it is.
func (a *app) recorded(repository string) (name, host string) {
	src, err := a.source("")
	if err != nil {
		return repository, ""
	}
	cfg, err := src.load(true)
	if err != nil {
		return repository, ""
	}
	f, ok := cfg.Find(repository)
	if !ok {
		return repository, ""
	}
	host, _, _ = strings.Cut(f.Full, "/")
	return f.Repository, host
}
