package configs

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// diffUpstreams compares upstreams by name, as logs and metrics know them. One
// that keeps its URL under another name is the same one, and so is an only one.
func diffUpstreams(from, to *Config) []string {
	var out []string
	old := make([]int, len(to.Upstreams)) // index in from, -1 for a new one
	kept := map[int]bool{}
	match := func(same func(a, b *Upstream) bool) {
		for i := range to.Upstreams {
			for j := range from.Upstreams {
				if old[i] < 0 && !kept[j] && same(&from.Upstreams[j], &to.Upstreams[i]) {
					old[i], kept[j] = j, true
				}
			}
		}
	}
	for i := range old {
		old[i] = -1
	}
	match(func(a, b *Upstream) bool { return a.Name == b.Name })
	match(func(a, b *Upstream) bool { return address(a) == address(b) && a.whole() == b.whole() })
	match(func(a, b *Upstream) bool { return address(a) == address(b) })
	if len(from.Upstreams) == 1 && len(to.Upstreams) == 1 {
		match(func(_, _ *Upstream) bool { return true })
	}
	for i := range to.Upstreams {
		u := &to.Upstreams[i]
		if old[i] < 0 {
			out = append(out, fmt.Sprintf("upstream %s is new: %s goes to %s", u.Name, u.whole(), address(u)))
			continue
		}
		out = append(out, diffUpstream(from, old[i], to, i)...)
	}
	for j := range from.Upstreams {
		if u := &from.Upstreams[j]; !kept[j] {
			out = append(out, fmt.Sprintf("upstream %s is gone: %s went to %s", u.Name, u.whole(), address(u)))
		}
	}
	return out
}

// whole is all that u holds, as a pattern.
func (u *Upstream) whole() string {
	text := u.Prefix + "**"
	if u.Hostname != "" {
		text = u.Hostname + "/" + text
	}
	return text
}

func address(u *Upstream) string {
	if u.URL == nil {
		return "an unknown place of " + u.Name
	}
	return u.URL.String()
}

func diffUpstream(from *Config, j int, to *Config, i int) []string {
	a, b := &from.Upstreams[j], &to.Upstreams[i]
	at := "upstream"
	if len(from.Upstreams) > 1 || len(to.Upstreams) > 1 {
		at = "upstream " + b.Name
	}
	var out []string
	if a.whole() != b.whole() {
		out = append(out, fmt.Sprintf("%s holds %s, was %s", at, b.whole(), a.whole()))
	}
	told := []string{".prefix", ".hostname", ".shared_blobs"} // in words of their own
	if a.Passthrough() || b.Passthrough() {
		told = append(told, ".credentials")
	}
	order, after := to.upstreamFields(i, at, told)
	_, before := from.upstreamFields(j, at, told)
	out = append(out, changes(order, before, after)...)
	if a.Password.Reveal() != b.Password.Reveal() && !a.Password.IsZero() && !b.Password.IsZero() {
		out = append(out, at+".password is another one")
	}
	if a.Passthrough() != b.Passthrough() {
		if b.Passthrough() {
			out = append(out, at+": people's own logins go on to it (credentials: passthrough)")
		} else {
			out = append(out, at+": people's own logins no longer go on to it (credentials: "+b.Credentials+")")
		}
	}
	if on, was := b.shared(), a.shared(); on != was {
		if on {
			out = append(out, at+": a layer is served only through a repository whose manifests refer to it (shared_blobs: true)")
		} else {
			out = append(out, at+": a layer is served through any repository that the upstream gives it under (shared_blobs: false)")
		}
	}
	return out
}

func (u *Upstream) shared() bool { return u.SharedBlobs != nil && *u.SharedBlobs }

// upstreamFields are the plain values of upstream i but those of some keys.
func (c *Config) upstreamFields(i int, at string, but []string) (order []string, values map[string]string) {
	var fields []Field
	path := c.UpstreamPath(i)
	c.show(path, reflect.ValueOf(&c.Upstreams[i]).Elem(), &fields)
	values = map[string]string{}
	for _, f := range fields {
		key := strings.TrimPrefix(f.Path, path)
		if slices.Contains(but, key) {
			continue
		}
		order = append(order, at+key)
		values[at+key] = c.written(f.Path, f.Value)
	}
	return order, values
}

// diffLogins says who is asked about passwords.
func diffLogins(from, to *Config) []string {
	a, b := from.Auth.Upstream, to.Auth.Upstream
	switch {
	case a == b:
		return nil
	case b == "":
		return []string{fmt.Sprintf("logins are no longer asked of upstream %s", a)}
	case a == "":
		return []string{fmt.Sprintf("logins are asked of upstream %s", b)}
	}
	return []string{fmt.Sprintf("logins are asked of upstream %s, were of %s", b, a)}
}
