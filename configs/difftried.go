package configs

import (
	"slices"

	"github.com/regward/regward/auth"
)

// Rights of rules that are tried, and of the allows that are not.
func triedDenies(r Rule) auth.Actions { return only(r.Deny, r.DryRun) }
func triedAllows(r Rule) auth.Actions { return only(r.Allow, r.DryRun) }
func firmAllows(r Rule) auth.Actions  { return only(r.Allow, !r.DryRun) }

func only(a auth.Actions, when bool) auth.Actions {
	if when {
		return a
	}
	return 0
}

// diffTried is about dry runs. What has come into force, or was taken away
// altogether, is told as a right already.
func diffTried(from, to *Config) []string {
	denied, lost := tried(from)
	deniedNow, lostNow := tried(to)
	gone := without(rights(from.Rules, allows), rights(to.Rules, allows))
	return slices.Concat(
		sentences(without(deniedNow, denied), "would be denied %s on %s (dry run)"),
		sentences(without(lostNow, lost), "would lose %s on %s (dry run)"),
		sentences(without(denied, deniedNow, rights(to.Rules, denies)), "would no longer be denied %s on %s (the dry run is over)"),
		sentences(without(lost, lostNow, gone), "would no longer lose %s on %s (the dry run is over)"),
	)
}

// tried is what dry runs would deny, and what only they still allow.
func tried(c *Config) (denied, lost []right) {
	return without(rights(c.Rules, triedDenies), rights(c.Rules, denies)), without(rights(c.Rules, triedAllows), rights(c.Rules, firmAllows))
}

// without is list less what one of others says as well.
func without(list []right, others ...[]right) []right {
	return slices.DeleteFunc(slices.Clone(list), func(r right) bool {
		return slices.ContainsFunc(others, func(o []right) bool { return r.in(o) })
	})
}
