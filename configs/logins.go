package configs

import (
	"fmt"
	"slices"
	"strings"
)

// completeLogins turns true into the name of the default upstream, which is
// the one with no prefix, else the first; those for all hostnames come before.
func (k *checker) completeLogins() {
	switch k.Auth.Upstream {
	case "false":
		k.Auth.Upstream = ""
	case "true":
		if i := k.defaultUpstream(); i >= 0 {
			k.Auth.Upstream = k.Upstreams[i].Name
		}
	}
}

func (c *Config) defaultUpstream() int {
	for _, is := range []func(Upstream) bool{
		func(u Upstream) bool { return u.Hostname == "" && u.Prefix == "" },
		func(u Upstream) bool { return u.Hostname == "" },
		func(u Upstream) bool { return u.Prefix == "" },
		func(Upstream) bool { return true },
	} {
		if i := slices.IndexFunc(c.Upstreams, is); i >= 0 {
			return i
		}
	}
	return -1
}

// checkLogins: one kind of password, asked of an upstream that can tell.
func (k *checker) checkLogins() {
	passes := slices.IndexFunc(k.Upstreams, func(u Upstream) bool { return u.Passthrough() })
	if passes >= 0 && k.given("auth.htpasswd") {
		k.bad("auth.htpasswd", fmt.Sprintf("people log in with their password of %s, which has credentials: passthrough", k.Upstreams[passes].Name), "leave htpasswd out, or give regward an account there instead of passthrough")
	}
	name := k.Auth.Upstream
	if name == "" || name == "true" || k.refused("auth.upstream") {
		return
	}
	i := slices.IndexFunc(k.Upstreams, func(u Upstream) bool { return u.Name == name })
	switch {
	case i < 0:
		k.unknownLogin(name)
		return
	case passes >= 0 && passes == i:
		k.bad("auth.upstream", fmt.Sprintf("%s has credentials: passthrough, so people use their logins of it already", name), "leave auth.upstream out")
		return
	case passes >= 0:
		k.bad("auth.upstream", fmt.Sprintf("people log in with their password of %s, which has credentials: passthrough", k.Upstreams[passes].Name), "leave auth.upstream out, or give regward an account there instead of passthrough")
		return
	}
	u := &k.Upstreams[i]
	if u.Username == "" && !k.given(k.UpstreamPath(i)+".username") {
		k.maybe("auth.upstream", fmt.Sprintf("%s knows who may log in, but regward has no account there: everything is asked of it without a login", name),
			fmt.Sprintf("set %s.username and password, or credentials: passthrough, unless what it gives to anybody is enough", k.UpstreamPath(i)))
	}
	if u.URL != nil && slices.Contains(openToAll, u.URL.Hostname()) {
		k.maybe("auth.upstream", fmt.Sprintf("anybody can get an account of %s: authenticated is then everybody in the world", u.URL.Hostname()), "allow user: or group: alone, or use auth.htpasswd")
	}
}

func (k *checker) unknownLogin(name string) {
	var known []string
	for i := range k.Upstreams {
		known = append(known, k.Upstreams[i].Name)
	}
	if slices.Contains(known, "") {
		return // it has no URL, and that was said
	}
	msg := fmt.Sprintf("%q is the name of no upstream", clip(name))
	if best := Nearest(strings.TrimSuffix(name, "/"), known); best != "" {
		msg += fmt.Sprintf("; did you mean %q?", best)
	}
	fix := "write true for the default one, or the name of another"
	if slices.Sort(known); len(known) <= 5 {
		fix = "write true for the default one, or " + orList(slices.Compact(known))
	}
	k.bad("auth.upstream", msg, fix)
}

// openToAll are registries where everybody can sign up.
var openToAll = []string{"registry-1.docker.io", "index.docker.io", "ghcr.io", "quay.io", "registry.gitlab.com", "codeberg.org"}

// checkKnown looks at what is known of public registries.
func (k *checker) checkKnown(at string, u *Upstream) {
	if u.URL == nil {
		return
	}
	k.checkLoop(at, u)
	host := u.URL.Hostname()
	tokens := map[string]string{"registry-1.docker.io": "auth.docker.io", "index.docker.io": "auth.docker.io", "registry.gitlab.com": "gitlab.com"}[host]
	refused := slices.ContainsFunc(u.TokenHosts, func(h string) bool { _, err := parseHostname(h); return err != nil })
	if tokens != "" && !refused && !slices.Contains(u.TokenHosts, tokens) && !k.absentBelow(at+".token_hosts") {
		k.maybe(at+".token_hosts", fmt.Sprintf("%s gives its tokens at %s, which is not asked unless it is named", host, tokens),
			fmt.Sprintf("write token_hosts: [%s]", strings.Join(append(slices.Clone(u.TokenHosts), tokens), ", ")))
	}
	switch host {
	case "docker.io", "hub.docker.com", "www.docker.com", "registry.hub.docker.com":
		k.maybe(at+".url", host+" is not where Docker Hub answers as a registry", "write url: https://registry-1.docker.io")
	case "registry-1.docker.io", "index.docker.io":
		if u.DefaultNamespace == "" && !k.absent(at+".default_namespace") {
			k.maybe(at+".default_namespace", fmt.Sprintf("Docker Hub has images of one part below library/: %salpine will not be found", u.Prefix), "write default_namespace: library")
		}
	}
}

// checkLoop: requests that come back to regward itself.
func (k *checker) checkLoop(at string, u *Upstream) {
	port := u.URL.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.URL.Scheme]
	}
	listens := slices.ContainsFunc(k.Listen, func(l string) bool { return strings.HasSuffix(l, ":"+port) })
	if listens && slices.Contains(k.bareHostnames(), strings.ToLower(u.URL.Hostname())) {
		k.maybe(at+".url", u.URL.Host+" is regward itself: requests would go round in circles", "write the name or address that the registry itself has")
	}
}
