package proxy

import (
	"context"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/ratelimit"
)

// failed is a login that was wrong, or refused unheard: first the limits of
// failed logins are asked, then they count it, as guard does.
func (r *Rehearsal) failed(p *Past, user string) {
	if p.Repeated {
		r.out.Skip = SkipRefused
		return
	}
	if r.admit(p, user) {
		_ = r.guard(p).each(auth.Credential{User: user}, func(l *Limit, s ratelimit.Spend) error {
			s.N = 1
			_, err := r.failures.Take(context.Background(), s)
			return err
		})
	}
}

// shutOut asks for a login that was good whether it would have been heard.
// One that was proven from there not long ago is spared.
func (r *Rehearsal) shutOut(p *Past) bool {
	key := clientKey(p.Addr, r.all.PrefixV4, r.all.PrefixV6) + " " + p.User
	if at, ok := r.good.Get(key); ok && r.now.Sub(at) < auth.GoodBefore {
		return false
	}
	if !r.admit(p, p.User) {
		return true
	}
	r.good.Add(key, r.now)
	r.out.Login, r.out.Asked, r.out.Would = false, r.out.Asked[:0], r.out.Would[:0]
	return false
}

// admit is guard.Admit, told.
func (r *Rehearsal) admit(p *Past, user string) bool {
	r.out.Login = true
	r.out.Caller = auth.Caller{Identity: auth.Identity{Name: r.all.fold(user)}, Addr: p.Addr}
	_ = r.guard(p).each(auth.Credential{User: user}, func(l *Limit, s ratelimit.Spend) error {
		r.out.Asked = append(r.out.Asked, Asked{Limit: r.place(l), Client: s.Client, Taken: true})
		if r.out.Refused >= 0 {
			return nil
		}
		res, err := r.failures.Take(context.Background(), s)
		if err != nil || res.OK {
			return err
		}
		i := len(r.out.Asked) - 1
		r.out.Asked[i].Taken, r.out.Asked[i].Wait = false, res.RetryAfter
		if l.DryRun {
			r.out.Would = append(r.out.Would, i)
		} else {
			r.out.Refused = i
		}
		return nil
	})
	if r.out.Refused >= 0 {
		r.refused(r.out.Refused, r.out.Asked[r.out.Refused].Wait)
	}
	return r.out.Refused < 0
}

func (r *Rehearsal) guard(p *Past) *guard { return &guard{h: r.h, s: r.all, addr: p.Addr} }
