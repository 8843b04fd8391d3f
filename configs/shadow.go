package configs

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/regward/regward/auth"
)

// namedLimits is how many other limits a warning names.
const namedLimits = 3

// warnShadowed finds a limit that another one always comes before. It reports
// whether this is one.
func (k *checker) warnShadowed(i int, at string, l Limit) bool {
	for j, o := range k.Limits {
		if k.shadows(j, i) {
			first := map[Count]string{CountBytes: "slows down before it", CountTransfers: "is full first"}[l.Count]
			k.maybe(at, fmt.Sprintf("never bites: limits[%d] (%s) %s", j, o.Name, cmp.Or(first, "is used up first")),
				fmt.Sprintf("leave it out, or write exempt in limits[%d] for those whom only this one shall count", j))
			return true
		}
	}
	return false
}

// shadows reports whether limit j refuses whatever limit i would, before it: it
// counts the same into as many buckets, of all whom i counts, and gives no more
// of it, neither at once nor in the long run. Of two that are equal it is the
// first in the file. A dry run shadows only another one, for it may be what will
// replace the limit beside it.
func (k *checker) shadows(j, i int) bool {
	o, l := &k.Limits[j], &k.Limits[i]
	if i == j || o.Where == "built in" || l.Where == "built in" || o.Count != l.Count || o.Per != l.Per || o.DryRun != l.DryRun {
		return false
	}
	less, known := atMost(o, l)
	if more, _ := atMost(l, o); !known || !less || more && j > i {
		return false
	}
	if len(o.From) > 0 && !slices.Equal(o.From, l.From) {
		return false
	}
	spared := slices.ContainsFunc(o.Exempt.Subjects, func(s auth.Subject) bool { return !covers(l.Exempt.Subjects, s) }) ||
		slices.ContainsFunc(o.Exempt.Networks, func(n netip.Prefix) bool { return !slices.Contains(l.Exempt.Networks, n) })
	return !spared && k.coversAll(o, l)
}

// coversAll reports whether o counts all whom, and all that, l counts.
func (k *checker) coversAll(o, l *Limit) bool {
	everyone, err := auth.ParseSubject("everyone")
	all, err2 := auth.ParsePattern("**")
	if err != nil || err2 != nil {
		return false
	}
	subjects, patterns := l.Subjects, l.Repositories
	if len(subjects) == 0 {
		subjects = []auth.Subject{everyone}
	}
	if len(patterns) == 0 {
		patterns = []auth.Pattern{all}
	}
	outside := len(o.Subjects) > 0 && slices.ContainsFunc(subjects, func(s auth.Subject) bool { return !covers(o.Subjects, s) })
	elsewhere := len(o.Repositories) > 0 && slices.ContainsFunc(patterns, func(p auth.Pattern) bool { return !k.contains(o.Repositories, p) })
	return !outside && !elsewhere
}

// atMost reports whether a gives no more than b, if that is known: a variable
// that is not set leaves no rate.
func atMost(a, b *Limit) (less, known bool) {
	if a.Count == CountTransfers {
		return a.Most <= b.Most, a.Most > 0 && b.Most > 0
	}
	if a.Rate.Events == 0 || b.Rate.Events == 0 || a.Rate.Per == 0 || b.Rate.Per == 0 {
		return false, false
	}
	slower := float64(a.Rate.Events)*float64(b.Rate.Per) <= float64(b.Rate.Events)*float64(a.Rate.Per)
	return slower && cmp.Or(a.Rate.Burst, a.Rate.Events) <= cmp.Or(b.Rate.Burst, b.Rate.Events), true
}

// warnReplaced: one limit of failed logins takes the place of both that are
// built in. Whoever writes one for each address and one for something else has
// thought of that.
func (k *checker) warnReplaced() {
	first, pers := -1, map[Per]bool{}
	for i, l := range k.Limits {
		if l.Count == CountFailedLogins && l.Where != "built in" {
			if first < 0 {
				first = i
			}
			pers[l.Per] = true
		}
	}
	if first < 0 || len(pers) > 1 {
		return
	}
	var gone []string
	for _, l := range builtIn() {
		gone = append(gone, fmt.Sprintf("limit %s is gone: %s", l.Name, l.words()))
	}
	k.maybe(fmt.Sprintf("limits[%d]", first), strings.Join(gone, "; "), "write both yourself, one per: ip and one per: user")
}
