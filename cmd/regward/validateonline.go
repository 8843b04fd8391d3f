package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
	"github.com/regward/regward/proxy"
)

// onlineFor is how long one upstream is asked.
const onlineFor = 15 * time.Second

// reporter takes one problem.
type reporter func(s configs.Severity, path, msg, fix string)

// checkUpstreams builds every upstream and, online, asks each.
func checkUpstreams(ctx context.Context, cfg *configs.Config, settings proxy.Settings, online bool, say reporter) {
	for i, s := range settings.Upstreams {
		at := cfg.UpstreamPath(i)
		up, err := proxy.NewUpstream(s, proxy.UpstreamOptions{})
		if err != nil {
			say(configs.Error, at, err.Error(), "")
			continue
		}
		if online {
			answers, asks := checkOnline(ctx, up, s, at, say)
			if asks && s.Passthrough && s.Username == "" && len(settings.Policy.Patterns(&auth.Caller{}, auth.Pull)) > 0 {
				say(configs.Warning, at, fmt.Sprintf("upstream %s asks for a login, and callers without one have none: what the rules let anybody pull is not found", s.URL),
					fmt.Sprintf("set %s.username and %s.password of an account that may read, for them alone, unless it gives enough to anybody", at, at))
			}
			switch {
			case answers && s.Passthrough:
				checkAsked(ctx, up, s, at+".credentials", say)
			case answers && s.Name == settings.LoginUpstream:
				checkAsked(ctx, up, s, "auth.upstream", say)
			}
		}
		up.Close()
	}
}

// checkOnline asks an upstream what the operator cannot know: whether it lets
// everybody in (M3), whether it takes the account, and what it is. It reports
// whether the upstream answers at all, and whether it asks for a login.
func checkOnline(ctx context.Context, up *proxy.Upstream, u proxy.UpstreamSettings, at string, say reporter) (answers, asks bool) {
	ctx, cancel := context.WithTimeout(ctx, onlineFor)
	defer cancel()
	probe, err := up.Probe(ctx)
	nexus := strings.HasPrefix(probe.Server, "Nexus")
	switch {
	case err != nil && probe.Open:
		say(configs.Error, at, fmt.Sprintf("upstream %s lets everybody in, and does not answer with the account: %v", u.URL, err), "")
	case err != nil:
		sayUnreachable(err, u, at, say)
	case probe.Open:
		msg := fmt.Sprintf("upstream %s serves /v2/ without a login: anybody who reaches it passes regward by.", u.URL)
		if nexus || strings.Contains(u.URL.Path, "/repository/") {
			msg += fmt.Sprintf(" In Nexus turn off \"Allow anonymous docker pull\" and Anonymous Access, and let only this host reach port %s.", portOf(u))
		} else {
			msg += " Let only this host reach it."
		}
		say(configs.Warning, at, msg, "")
	case u.Username == "" && !u.Passthrough:
		say(configs.Warning, at, fmt.Sprintf("upstream %s asks for a login, and none is configured", u.URL),
			fmt.Sprintf("set %s.username and %s.password, unless what it gives to anybody is enough", at, at))
	}
	if probe.Login != "" {
		say(configs.Error, at+".username", fmt.Sprintf("upstream %s: %s; check %s.username and %s.password", u.URL, probe.Login, at, at), "")
	}
	if nexus && u.SharedBlobs == nil {
		say(configs.Error, at+".shared_blobs", fmt.Sprintf("has to be spelled out: upstream %s is Nexus (Server: %s), which gives any layer under any image name", u.URL, probe.Server), configs.FixSharedBlobs)
	}
	return err == nil, err == nil && !probe.Open
}

// sayUnreachable says which key helps, where one does.
func sayUnreachable(err error, u proxy.UpstreamSettings, at string, say reporter) {
	var foreign *proxy.ForeignRealmError
	if errors.As(err, &foreign) {
		hosts := append(append([]string{}, u.TokenHosts...), foreign.Host)
		say(configs.Error, at+".token_hosts", fmt.Sprintf("upstream %s gives its tokens at %s, and nothing is sent to a host that is not named", u.URL, foreign.Host),
			fmt.Sprintf("if that is right, write token_hosts: [%s]", strings.Join(hosts, ", ")))
		return
	}
	fix := ""
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		fix = fmt.Sprintf("name the CA it comes from in %s.ca_file", at)
	}
	say(configs.Error, at, fmt.Sprintf("upstream %s cannot be reached or does not answer like a registry: %v", u.URL, err), fix)
}

// checkAsked tries whether an upstream can be asked about people's logins: one
// that takes a made-up login knows nothing about real ones.
func checkAsked(ctx context.Context, up *proxy.Upstream, u proxy.UpstreamSettings, path string, say reporter) {
	ctx, cancel := context.WithTimeout(ctx, onlineFor)
	defer cancel()
	if err := up.ProbeLogins(ctx); err != nil {
		say(configs.Error, path, fmt.Sprintf("upstream %s: %v", u.URL, err), "where any login is taken, turn anonymous access off there, or use auth.htpasswd instead")
	}
}

func portOf(u proxy.UpstreamSettings) string {
	if p := u.URL.Port(); p != "" {
		return p
	}
	if port, err := net.LookupPort("tcp", u.URL.Scheme); err == nil {
		return fmt.Sprint(port)
	}
	return "80"
}
