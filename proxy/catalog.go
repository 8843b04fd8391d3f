package proxy

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/regward/regward/auth"
)

// catalog lists what the caller may pull and nothing else (R14), of all
// upstreams behind this hostname: their pages are read until one page of the
// client's is full. The name of a repository the caller may not see is never
// told, not even as the place to go on from.
func (x *exchange) catalog() error {
	if !x.s.Catalog {
		return refuse(http.StatusNotFound, "UNSUPPORTED", "the catalog is off here")
	}
	want := defaultPage
	if x.req.Query.N != "" {
		want, _ = strconv.Atoi(x.req.Query.N) // the grammar let only numbers through
	}
	want = min(max(want, 1), maxPage)
	l, err := x.openListing(x.req.Query.Last)
	if err != nil {
		return err
	}
	page, next, err := l.page(want)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string][]string{"repositories": page})
	if err != nil {
		return err
	}
	h := x.w.Header()
	h["Content-Type"] = jsonType
	if next != "" {
		h["Link"] = []string{linkTo(x.req.Path(), url.Values{"last": {next}, "n": {strconv.Itoa(want)}}.Encode())}
	}
	x.respond(http.StatusOK, append(body, '\n'))
	return nil
}

// listing is the catalogs of all upstreams behind a hostname, as one: each in
// the order its registry gives, merged by client names.
type listing struct {
	x       *exchange
	caller  *auth.Caller
	streams []*stream
	after   string          // names up to this one are not shown: the client has them
	left    int             // upstream pages that may still be read
	told    map[string]bool // names, so that none is told twice

	match func(name string) bool // of a search: which are wanted; nil: all
}

// openListing begins at a client's last: "" is the start, a cursor of ours is
// where each upstream was left, and a name is where that name would stand.
func (x *exchange) openListing(last string) (*listing, error) {
	l := &listing{x: x, caller: x.uncapped(), told: map[string]bool{}}
	var known []position
	if sealed(last) {
		place, err := x.catalogSeals().open(last)
		if err != nil {
			return nil, err
		}
		if last, known, err = readPositions([]byte(place)); err != nil {
			return nil, err // we sealed it: this cannot be
		}
	}
	places := x.s.places.Holding(x.site.name)
	for _, at := range places {
		s := newStream(x.s, at, last)
		if i := slices.IndexFunc(known, func(p position) bool { return p.at == at }); i >= 0 {
			s.goOn(known[i])
		}
		l.streams = append(l.streams, s)
	}
	if len(places) > 1 { // a registry need not know a name of another one's to begin after it
		l.after = last
	}
	l.left = maxCatalogPages + len(l.streams) - 1 // each can be read from, and one to its bound
	x.patience()
	return l, nil
}

func (x *exchange) catalogSeals() seals {
	return seals{x.s.catalogSealer, "catalog " + x.site.name, x.who.Name}
}

// uncapped is the caller without the token's ceiling: a catalog token covers
// the catalog, the rules say what is in it.
func (x *exchange) uncapped() *auth.Caller {
	c := x.who
	c.Capped, c.Scope = false, nil
	return &c
}

// page gathers up to want names, and the last by which the next page is asked
// for: "" at the end.
func (l *listing) page(want int) (page []string, next string, err error) {
	page = []string{}
	for {
		name, more, err := l.peek()
		switch {
		case err != nil:
			return nil, "", err
		case !more:
			return page, "", nil
		case name == "": // as much was read as one request may
			next, err = l.leave(page)
			return page, next, err
		case len(page) < want:
			l.take(name)
			page = append(page, name)
			continue
		}
		// One more than fits: there is a next page.
		if len(l.streams) == 1 && l.streams[0].byName {
			return page, page[want-1], nil
		}
		next, err = l.leave(page)
		return page, next, err
	}
}

// peek is the next name of all that the caller may see. There are no more at
// the end of all catalogs; the name is "" where the bound of one request is
// reached before.
func (l *listing) peek() (name string, more bool, err error) {
	var none error
	served := false
	for _, s := range l.streams {
		if err := l.fill(s); err != nil {
			return "", false, err
		}
		if none == nil || s.none != nil && s.b.settings.Passthrough {
			none = s.none
		}
		served = served || s.none == nil
		switch {
		case s.over:
			continue
		case s.head == "":
			return "", true, nil
		case name == "" || s.head < name:
			name = s.head
		}
	}
	if !served {
		return "", false, none
	}
	return name, name != "", nil
}

// take is done with the name that peek gave.
func (l *listing) take(name string) {
	l.told[name] = true
	for _, s := range l.streams {
		if s.head == name {
			s.head = ""
			s.skip++
			return
		}
	}
}

// fill reads on until s has a name to show, is over, or the bound is reached,
// which leaves one page for each that was not read yet.
func (l *listing) fill(s *stream) error {
	for s.head == "" && !s.over {
		for s.skip < len(s.names) {
			if name, ok := l.visible(s, s.names[s.skip]); ok {
				s.head = name
				return nil
			}
			s.skip++
		}
		if s.read && s.ahead == "" {
			s.over = true
			return nil
		}
		if l.left <= l.unread(s) {
			s.over = l.match != nil // who searches does not go on: the others count
			return nil
		}
		l.left--
		if err := l.x.read(s); err != nil {
			l.x.failed = s.b
			return err
		}
	}
	return nil
}

// unread are the streams besides s that a page is kept for.
func (l *listing) unread(s *stream) int {
	n := 0
	for _, o := range l.streams {
		if o != s && !o.read && !o.over {
			n++
		}
	}
	return n
}

// visible is the client's name of an upstream's repository, if the caller may
// pull it and it was not told yet. What is no name leads nowhere.
func (l *listing) visible(s *stream, name string) (string, bool) {
	if len(name) > maxName {
		return "", false
	}
	places, host := l.x.s.places, l.x.site.name
	name, ok := places.ClientName(host, s.b.at, name)
	if !ok || len(name) > maxName || name <= l.after || l.told[name] || l.match != nil && !l.match(name) {
		return "", false
	}
	f, ok := places.Find(host, "", name)
	return name, ok && l.x.s.Policy.Decide(l.caller, []auth.Access{f.Access(auth.Pull)}).Allowed()
}

// leave is the place of all upstreams, sealed. Of so many that it is too long
// it is the last name of the page: good enough where they are sorted.
func (l *listing) leave(page []string) (string, error) {
	list := make([]position, len(l.streams))
	for i, s := range l.streams {
		list[i] = s.position()
	}
	next, err := l.x.catalogSeals().seal(l.x, string(appendPositions(nil, l.after, list)))
	if err != nil && len(page) > 0 {
		return page[len(page)-1], nil
	}
	return next, err
}
