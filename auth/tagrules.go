package auth

import "fmt"

// immutables are the rules that make tags immutable: those in force, and those
// that are tried.
type immutables struct{ firm, tried index }

// tagHolds reports whether the rule is about what want names: one of its tags,
// or no tag. An allow covers what names none, since the content that tags name
// is fetched and sent by digests. A deny is about its tags only, but of what is
// deleted by its digest nobody knows whether one of them names it.
func (r *Rule) tagHolds(want *Access) bool {
	if len(r.Tags) == 0 {
		return true
	}
	if want.Tag == "" {
		return r.Deny == 0 || want.Action == Delete
	}
	for i := range r.Tags {
		if r.Tags[i].Matches(want.Tag) {
			return true
		}
	}
	return false
}

// TagsCover reports whether each tag that inner means is one of outer's; none
// is any.
func TagsCover(outer, inner []TagPattern) bool {
	if len(outer) == 0 {
		return true
	}
	for _, in := range inner {
		held := false
		for _, out := range outer {
			held = held || out.Contains(in)
		}
		if !held {
			return false
		}
	}
	return len(inner) > 0
}

// tagsCover reports whether the rule speaks of a wherever o does, as far as
// tags go.
func (r *Rule) tagsCover(o *Rule, a Action) bool {
	if len(r.Tags) > 0 && r.Deny != 0 && o.Deny == 0 && a != Delete {
		return false // o covers what names no tag, too
	}
	return TagsCover(r.Tags, o.Tags)
}

// tagWords is what follows a rule's patterns in a sentence: " (tags v*)", or
// nothing.
func (r *Rule) tagWords() string {
	if len(r.Tags) == 0 {
		return ""
	}
	return " (tags " + join(r.Tags, TagPattern.String) + ")"
}

// someTag stands for a tag that only a rule about all of them means. No tag is
// called so.
const someTag = "*"

// Tags reports whether any rule tells one tag from another. Where none does, no
// refusal is for a tag's sake.
func (p *Policy) Tags() bool { return p.tags || p.fixed != nil }

// Grants reports whether a token of c's may carry want. Tokens name no tags:
// where c may do it to some tag, or to what names none, the token says yes, and
// the tag is judged when it comes. The ceiling of c's own token counts as in
// Decide.
func (p *Policy) Grants(c *Caller, want Access) bool {
	want.Tag = ""
	if !c.covers(&want) {
		return false
	}
	if p.decide(c, &want).Allowed() {
		return true
	}
	return want.Action == Delete && p.deletesSome(c, want)
}

// deletesSome reports whether c may delete by some tag where nothing may be
// deleted by digest.
func (p *Policy) deletesSome(c *Caller, want Access) bool {
	if !ValidRepository(want.Repository) {
		return false
	}
	tag := want
	tag.Tag = someTag
	if e, _ := p.deny.find(c, &tag); e != nil {
		return false
	}
	if e, _ := p.keeps(c, &tag, false); e != nil {
		return false
	}
	if e, _ := p.allow.find(c, &want); e != nil {
		return true
	}
	if p.dry == nil {
		return false
	}
	e, _ := p.dry.allow.find(c, &want)
	return e != nil
}

// Immutable reports whether the tag that want names may not be moved by c, once
// it is there: the same digest may be pushed to it again, and another may not.
// Any immutable rule that means c, the repository and the tag makes it so for c,
// whatever other rule allows the push too; others may still move it. Such a tag
// cannot be deleted by c either, nor anything there by its digest, which may be
// that tag's: Decide sees to that. Whether the tag is there, and which digest it
// names, only the registry knows.
//
// The Decision is the refusal, Denied, for when it is moved. Where the rule is a
// dry run it is Allowed, and WouldDeny says what the rule would do.
func (p *Policy) Immutable(c *Caller, want *Access) (d Decision, is bool) {
	if p.fixed == nil || want.Tag == "" || !ValidRepository(want.Repository) {
		return Decision{}, false
	}
	if e, who := p.keeps(c, want, false); e != nil {
		return kept(want, e.rule, e.pattern, who), true
	}
	if e, who := p.keeps(c, want, true); e != nil {
		d := Decision{Verdict: Allowed, Access: *want}
		d.wouldKeep(e.rule, who)
		return d, true
	}
	return Decision{}, false
}

// keeps is the first rule that makes what want names immutable for c: of those
// in force, or of those that are tried.
func (p *Policy) keeps(c *Caller, want *Access, tried bool) (*entry, Subject) {
	if p.fixed == nil {
		return nil, Subject{}
	}
	push := *want
	push.Action = Push
	if tried {
		return p.fixed.tried.find(c, &push)
	}
	return p.fixed.firm.find(c, &push)
}

// kept is the refusal to move or delete an immutable tag.
func kept(want *Access, r *Rule, p Pattern, s Subject) Decision {
	return Decision{Verdict: Denied, Access: *want, Rule: r.Where, pattern: p, subject: s, by: r, immutable: true}
}

// Immutable reports whether the refusal is for an immutable tag.
func (d Decision) Immutable() bool { return d.immutable }

// immutableWords is String of such a refusal.
func (d *Decision) immutableWords() string {
	if d.Access.Tag == "" {
		return fmt.Sprintf("%s makes tags of %s%s immutable for %s, and what is deleted by its digest may be one of theirs", d.Rule, d.pattern, d.by.tagWords(), d.subject.words())
	}
	return fmt.Sprintf("%s makes the tag %s of %s immutable for %s", d.Rule, d.Access.Tag, d.Access.Name(), d.subject.words())
}

// wouldKeep notes an immutable rule that is tried.
func (d *Decision) wouldKeep(r *Rule, s Subject) {
	now := kept(&d.Access, r, Pattern{}, s)
	now.Rule += ", a dry run,"
	if d.Access.Tag == "" {
		now.pattern = r.Repositories[0]
	}
	d.WouldDenyRule, d.WouldDeny = r.Where, now.immutableWords()
}
