package auth

import "strings"

// index finds the rules that can mean a repository by the parts their patterns
// begin with, and where many begin alike, by those they are about: of thousands
// of rules a decision looks at few, whether each team has a namespace of its own
// or all share that of the company.
type index struct {
	below   map[string]*bucket // by the literal parts a pattern begins with; "" for none
	deepest int                // parts in the longest of them
}

// bucket is the entries whose patterns begin alike. One that is split finds them
// by subject.
type bucket struct {
	all    []*entry             // in file order, as all lists are
	anyone []*entry             // split: those of rules that name nobody, or too many
	named  map[Subject][]*entry // split: the others; nil if it is not split
}

const (
	splitFrom = 16 // entries of a bucket: to look at fewer costs no more than to look them up
	splitMost = 64 // subjects of a rule that is put under each of them
)

// entry is one pattern of one rule.
type entry struct {
	rule    *Rule
	at, nth int // the rule's and the pattern's place
	pattern Pattern
}

func newIndex() index { return index{below: map[string]*bucket{}} }

func (x *index) add(r *Rule, at int) {
	for nth, p := range r.Repositories {
		head := p.literal()
		b := x.below[head]
		if b == nil {
			b = &bucket{}
			x.below[head] = b
		}
		b.all = append(b.all, &entry{r, at, nth, p})
		if head != "" {
			x.deepest = max(x.deepest, strings.Count(head, "/")+1)
		}
	}
}

// split is called once, after the last add.
func (x *index) split() {
	for _, b := range x.below {
		b.split()
	}
}

func (b *bucket) split() {
	if len(b.all) <= splitFrom {
		return
	}
	b.named = map[Subject][]*entry{}
	for _, e := range b.all {
		if !e.rule.byName() {
			b.anyone = append(b.anyone, e)
			continue
		}
		for _, s := range e.rule.Subjects {
			b.named[s] = append(b.named[s], e)
		}
	}
}

// byName reports whether the rule is about users, groups and robots alone, and
// about few of them.
func (r *Rule) byName() bool {
	for _, s := range r.Subjects {
		if s.kind < user {
			return false
		}
	}
	return len(r.Subjects) <= splitMost
}

// along calls what for each bucket whose patterns can mean name, the shortest
// beginning first.
func (x *index) along(name string, what func(*bucket)) {
	if b := x.below[""]; b != nil {
		what(b)
	}
	for end, depth := -1, 0; end < len(name) && depth < x.deepest; depth++ {
		end = partEnd(name, end+1)
		if b := x.below[name[:end]]; b != nil {
			what(b)
		}
	}
}

// find is the first entry in the file that means c and what it wants.
func (x *index) find(c *Caller, want *Access) (best *entry, who Subject) {
	if len(x.below) == 0 {
		return nil, Subject{}
	}
	look := func(b *bucket) {
		if e, s := b.find(c, want); e != nil && (best == nil || e.before(best)) {
			best, who = e, s
		}
	}
	x.along(want.Repository, look)
	if want.Full != "" {
		x.along(want.Full, look)
	}
	return best, who
}

func (b *bucket) find(c *Caller, want *Access) (best *entry, who Subject) {
	if b.named == nil {
		return match(b.all, c, want)
	}
	best, who = match(b.anyone, c, want)
	look := func(s Subject) {
		if e, s := match(b.named[s], c, want); e != nil && (best == nil || e.before(best)) {
			best, who = e, s
		}
	}
	switch {
	case c.Name == "":
	case c.robot():
		look(Subject{token, strings.TrimPrefix(c.Name, RobotPrefix)})
	default:
		look(Subject{user, c.Name})
		for _, g := range c.Groups {
			look(Subject{group, g})
		}
	}
	return best, who
}

func (e *entry) before(o *entry) bool {
	return e.at < o.at || e.at == o.at && e.nth < o.nth
}

func match(entries []*entry, c *Caller, want *Access) (*entry, Subject) {
	for _, e := range entries {
		if !e.rule.actions().Has(want.Action) || !e.pattern.Means(want, &c.Identity) || !e.rule.tagHolds(want) {
			continue
		}
		if s, ok := e.rule.subject(c); ok && e.rule.fromHolds(c) {
			return e, s
		}
	}
	return nil, Subject{}
}
