package proxy

import (
	"encoding/binary"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// sealedCursor is what a last of ours begins with: a place to go on from that
// only the upstream that named it has words for, or that would tell the name of
// a hidden repository. No tag and no name begins so.
const sealedCursor = "~"

// clientPage is the query by which a client asks for the page that the
// upstream asks for by next. Parameters of the upstream's own (page, next_page,
// a state) are sealed, because none that a client writes goes on (K1); what our
// own grammar reads and writes back unchanged stays in clear.
func (x *exchange) clientPage(next string) (string, error) {
	values, err := url.ParseQuery(next)
	if err != nil {
		return "", broken(errors.New("the query of the next page cannot be read"))
	}
	for _, other := range []string{"digest", "digest-algorithm", "mount", "from", "ns", "tag"} {
		delete(values, other) // they mean something else, and nothing here
	}
	next = values.Encode()
	q := Request{Kind: x.req.Kind, Method: http.MethodGet}
	if err := q.readQuery(next); err == nil && !sealed(q.Query.Last) && sameQuery(q.encodeQuery("", ""), next) {
		return next, nil
	}
	cursor, err := seals{x.up.pages, x.listed(), x.who.Name}.seal(x, next)
	if err != nil {
		return "", err
	}
	page := url.Values{"last": {cursor}, "artifactType": x.req.Query.ArtifactType}
	if x.req.Query.N != "" {
		page.Set("n", x.req.Query.N) // for clients that read it
	}
	return page.Encode(), nil
}

// openPage turns a page of the client's into what the upstream knows it by.
func (x *exchange) openPage() error {
	q := &x.req
	if q.Kind != KindTags && q.Kind != KindReferrers || !sealed(q.Query.Last) {
		return nil
	}
	page, err := seals{x.up.pages, x.listed(), x.who.Name}.open(q.Query.Last)
	if err != nil {
		return err
	}
	q.Query.Page = page
	return nil
}

// listed is the list that a page is of.
func (x *exchange) listed() string {
	return x.req.Kind.String() + " " + x.req.Reference + " " + x.repo.Name()
}

func sealed(last string) bool { return strings.HasPrefix(last, sealedCursor) }

// seals makes cursors of one list for one caller, and knows no others.
type seals struct {
	by        *sealer
	list      string
	principal string
}

var errLongCursor = errors.New("the place of the next page is too long to be kept")

func (s seals) seal(x *exchange, place string) (string, error) {
	id, err := s.by.seal(upload{Repository: s.list, Principal: s.principal, Start: x.start, Target: place})
	if err != nil {
		return "", err
	}
	if len(sealedCursor)+len(id) > maxCursor {
		return "", broken(errLongCursor)
	}
	return sealedCursor + id, nil
}

func (s seals) open(last string) (string, error) {
	up, err := s.by.open(strings.TrimPrefix(last, sealedCursor), s.list, s.principal)
	if err != nil {
		return "", refuse(http.StatusBadRequest, "UNSUPPORTED", "this page is not known here; start at the first")
	}
	return up.Target, nil
}

// position is how far one upstream's catalog has been read.
type position struct {
	at    int    // its place
	over  bool   // nothing is left of it
	query string // of the page
	skip  int    // names of that page that are done with
}

// appendPositions and readPositions are each other's inverse; after is the name
// that the client began after. A query that only names the last repository is
// written without its escapes: it is most of a cursor.
func appendPositions(b []byte, after string, list []position) []byte {
	b = appendString(b, after)
	for _, p := range list {
		b = binary.AppendUvarint(b, uint64(p.at))
		name, named := onlyLast(p.query)
		switch {
		case p.over:
			b = append(b, 'e')
			continue
		case named:
			b = append(b, 'l')
			b = appendString(b, name)
		default:
			b = append(b, 'q')
			b = appendString(b, p.query)
		}
		b = binary.AppendUvarint(b, uint64(p.skip))
	}
	return b
}

var errPositions = errors.New("these are no positions")

func readPositions(b []byte) (after string, list []position, err error) {
	after, b, ok := cutString(b)
	if !ok {
		return "", nil, errPositions
	}
	for len(b) > 0 {
		at, n := binary.Uvarint(b)
		if n <= 0 || at > maxPlaces || n == len(b) {
			return "", nil, errPositions
		}
		p := position{at: int(at)}
		kind := b[n]
		b = b[n+1:]
		switch kind {
		case 'e':
			p.over = true
			list = append(list, p)
			continue
		case 'l', 'q':
			var ok bool
			if p.query, b, ok = cutString(b); !ok {
				return "", nil, errPositions
			}
			if kind == 'l' {
				p.query = lastQuery(p.query)
			}
		default:
			return "", nil, errPositions
		}
		skip, n := binary.Uvarint(b)
		if n <= 0 || skip > maxCatalogBody {
			return "", nil, errPositions
		}
		p.skip, b = int(skip), b[n:]
		list = append(list, p)
	}
	return after, list, nil
}

// lastQuery asks for a full page of the names after last.
func lastQuery(last string) string {
	full := url.Values{"n": {fullPage}}
	if last != "" {
		full.Set("last", last)
	}
	return full.Encode()
}

// onlyLast is the inverse of lastQuery.
func onlyLast(query string) (last string, ok bool) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", false
	}
	last = values.Get("last")
	return last, lastQuery(last) == query
}
