package proxy

import "github.com/regward/regward/auth"

// find says which upstream the request is for, under which name that upstream
// knows the repository, and by which one the rules judge it (M02). What no
// upstream holds is judged by the name it came with: nobody learns more.
func (x *exchange) find() error {
	q := &x.req
	if q.Repository == "" {
		return nil
	}
	f, ok := x.s.places.Find(x.site.name, q.Query.NS, q.Repository)
	if !ok {
		x.repo = auth.Access{Repository: q.Repository}
		return nil
	}
	if len(f.Name) > maxName || len(f.Repository) > maxName { // P02
		return errName()
	}
	x.up, x.name, x.nsUsed = x.s.backends[f.Index], f.Name, f.ByNS
	x.repo = auth.Access{Repository: f.Repository, Full: f.Full}
	if f.Repository != q.Repository || f.Full != "" {
		for i := range q.Wants {
			q.Wants[i].Repository, q.Wants[i].Full = f.Repository, f.Full
		}
	}
	return nil
}

// repository is the one name of the request's repository.
func (x *exchange) repository() string { return x.repo.Name() }

// renamed reports whether the upstream knows the repository by another name
// than the client.
func (x *exchange) renamed() bool { return x.name != x.req.Repository }
