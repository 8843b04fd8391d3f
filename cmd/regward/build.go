package main

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
	"github.com/regward/regward/proxy"
)

// build is the only translation from a configuration to the objects that
// decide; serve, reload, validate and explain all go through it. tokens may be
// nil where nothing is signed, ca is nil unless regward has a CA of its own.
func build(cfg *configs.Config, tokens *auth.Tokens, ca []byte) (proxy.Settings, error) {
	people, err := buildLogins(cfg, tokens, nil)
	if err != nil {
		return proxy.Settings{}, err
	}
	return buildWith(cfg, tokens, ca, people)
}

// buildWith is build where those who check passwords are there already.
func buildWith(cfg *configs.Config, tokens *auth.Tokens, ca []byte, people *logins) (proxy.Settings, error) {
	policy, err := auth.NewPolicy(cfg.PolicyRules())
	if err != nil {
		return proxy.Settings{}, err
	}
	limits, err := buildLimits(cfg.Limits)
	if err != nil {
		return proxy.Settings{}, err
	}
	certs, err := buildCertificates(cfg)
	if err != nil {
		return proxy.Settings{}, err
	}
	s := proxy.Settings{
		Version:       cfg.Version,
		Hostnames:     cfg.Hostname,
		Contact:       cfg.Contact,
		Policy:        policy,
		Groups:        cfg.UserGroups(),
		CaseSensitive: cfg.Auth.CaseSensitive,
		Certificates:  certs,
		Tokens:        tokens,
		TokenTTL:      time.Duration(cfg.Token.TTL),
		Cache: auth.CacheTimes{
			TTL:         time.Duration(cfg.Cache.TTL),
			NegativeTTL: time.Duration(cfg.Cache.NegativeTTL),
			Stale:       time.Duration(cfg.Cache.Stale),
		},
		Lease:        time.Duration(cfg.Uploads.Lease),
		Limits:       limits,
		PrefixV4:     cfg.LimitIPPrefix.V4,
		PrefixV6:     cfg.LimitIPPrefix.V6,
		Proxies:      cfg.TrustedProxies,
		Senders:      cfg.ProxyProtocol.From,
		OnlyProxy:    cfg.TLS.Mode == configs.TLSOff && !allLoopback(cfg.Listen),
		Origins:      cfg.CORS.Origins,
		Catalog:      cfg.Catalog != "off",
		CA:           ca,
		Search:       cfg.Search,
		PerNamespace: cfg.Metrics.PerNamespace,
		IdleTimeout:  time.Duration(cfg.IdleTimeout),

		LoginUpstream: cfg.Auth.Upstream,
	}
	for i := range cfg.Upstreams {
		s.Upstreams = append(s.Upstreams, buildUpstream(&cfg.Upstreams[i], cfg))
	}
	if s.Logins = people.authenticator(); s.Logins != nil {
		s.Current = people.vouch
	}
	s.Renew = buildRenewer(cfg, people)
	if cfg.Auth.Robots != nil {
		s.Robots = buildRobots(cfg, tokens, nil, nil)
	}
	return s, nil
}

// buildHtpasswd is the file of logins, nil if there is none.
func buildHtpasswd(cfg *configs.Config, tokens *auth.Tokens) (*auth.Htpasswd, error) {
	if cfg.Auth.Htpasswd == "" {
		return nil, nil
	}
	o := auth.HtpasswdOptions{AllowWeak: cfg.Auth.AllowWeakHashes, CaseSensitive: cfg.Auth.CaseSensitive}
	if tokens != nil {
		// The same key on every instance: a token carries the keyed hash of the
		// line that proved it, and any of them must be able to compare it.
		o.Key = tokens.Derive("htpasswd proof")[0]
	}
	return auth.ParseHtpasswd(cfg.Auth.Htpasswd, cfg.Auth.HtpasswdData, o)
}

func buildUpstream(u *configs.Upstream, cfg *configs.Config) proxy.UpstreamSettings {
	return proxy.UpstreamSettings{
		Name:           u.Name,
		Place:          u.Place(),
		URL:            u.URL,
		Username:       u.Username,
		Password:       u.Password.Reveal(),
		Passthrough:    u.Passthrough(),
		SharedBlobs:    u.SharedBlobs,
		Follow:         u.Follow(),
		RedirectHosts:  u.RedirectHosts,
		TokenHosts:     u.TokenHosts,
		ReadOnly:       u.ReadOnly,
		AssertUser:     u.AssertUser,
		CA:             u.CA,
		ClientCert:     u.ClientCert,
		ClientKey:      bytes.Clone(u.ClientKey),
		ConnectTimeout: time.Duration(u.ConnectTimeout),
		HeaderTimeout:  time.Duration(u.HeaderTimeout),
		IdleTimeout:    time.Duration(cfg.IdleTimeout),
	}
}

func buildLimits(limits []configs.Limit) ([]proxy.Limit, error) {
	built := make([]proxy.Limit, 0, len(limits))
	for _, l := range limits {
		count, err := buildCount(l.Count)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.Where, err)
		}
		per, err := buildPer(l.Per)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.Where, err)
		}
		built = append(built, proxy.Limit{
			Name:         l.Name,
			Count:        count,
			Rate:         l.Rate,
			Most:         l.Most,
			Per:          per,
			Subjects:     l.Subjects,
			Repositories: l.Repositories,
			From:         l.From,
			ExemptWho:    l.Exempt.Subjects,
			ExemptFrom:   l.Exempt.Networks,
			DryRun:       l.DryRun,
			Where:        l.Where,
		})
	}
	return built, nil
}

func buildCount(c configs.Count) (proxy.Count, error) {
	switch c {
	case configs.CountRequests:
		return proxy.Requests, nil
	case configs.CountPulls:
		return proxy.Pulls, nil
	case configs.CountPushes:
		return proxy.Pushes, nil
	case configs.CountBytes:
		return proxy.Bytes, nil
	case configs.CountTransfers:
		return proxy.Transfers, nil
	case configs.CountFailedLogins:
		return proxy.FailedLogins, nil
	}
	return 0, fmt.Errorf("nothing counts %q", c)
}

func buildPer(p configs.Per) (proxy.Per, error) {
	switch p {
	case configs.PerClient, "":
		return proxy.PerClient, nil
	case configs.PerUser:
		return proxy.PerUser, nil
	case configs.PerIP:
		return proxy.PerIP, nil
	case configs.PerGroup:
		return proxy.PerGroup, nil
	case configs.PerNamespace:
		return proxy.PerNamespace, nil
	case configs.PerRepository:
		return proxy.PerRepository, nil
	case configs.PerAll:
		return proxy.PerAll, nil
	case configs.PerIPUser:
		return proxy.PerIPUser, nil
	}
	return 0, fmt.Errorf("there is no bucket per %q", p)
}

// allLoopback reports whether nobody but this machine can reach the addresses.
func allLoopback(listen []string) bool {
	for _, l := range listen {
		if strings.HasPrefix(l, "unix:") {
			continue
		}
		host, _, err := net.SplitHostPort(l)
		if err != nil {
			return false
		}
		if addr, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !addr.IsLoopback()) {
			return false
		}
	}
	return true
}

// bareHosts are the hostnames without their ports, as certificates have them.
func bareHosts(hostnames []string) []string {
	hosts := make([]string, 0, len(hostnames))
	for _, h := range hostnames {
		if host, _, err := net.SplitHostPort(h); err == nil {
			h = host
		}
		hosts = append(hosts, strings.Trim(h, "[]"))
	}
	return hosts
}
