package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// How long servers and connections are left alone.
const (
	ldapPause  = 5 * time.Second // for a server that does not answer
	ldapLocked = time.Minute     // for one that does not take our own login: more tries may lock it
	ldapIdle   = time.Minute     // a connection that nobody uses: firewalls forget it after a few
)

// ldapPool has connections for searches, all logged in as Bind, and knows which
// servers are not to be asked for now. A person's login is never tried on one of
// them: whoever searches next would do so as that person.
type ldapPool struct {
	bind    Credential
	timeout time.Duration
	idle    time.Duration
	now     func() time.Time
	servers []ldapServer
	slots   chan struct{} // questions under way

	mu      sync.Mutex
	free    []*ldapConn // the latest used last
	state   []ldapState // of the servers
	follows *bool       // groups in groups, by itself; nil: not asked yet
}

// ldapState is why a server is not asked, and until when.
type ldapState struct {
	why   error
	until time.Time
}

func newLDAPPool(o *LDAPOptions) (*ldapPool, error) {
	base := &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(2 * len(o.Servers))}
	if len(o.CA) > 0 {
		base.RootCAs = x509.NewCertPool()
		if !base.RootCAs.AppendCertsFromPEM(o.CA) {
			return nil, errors.New("ldap: no certificate in PEM among those to be believed")
		}
	}
	p := &ldapPool{
		bind: o.Bind, timeout: o.Timeout, idle: ldapIdle, now: o.Now,
		slots: make(chan struct{}, o.Pool), state: make([]ldapState, len(o.Servers)),
	}
	for _, text := range o.Servers {
		s, err := newLDAPServer(text, o, base)
		if err != nil {
			return nil, err
		}
		p.servers = append(p.servers, s)
	}
	return p, nil
}

// same reports whether q asks as p does.
func (p *ldapPool) same(q *ldapPool) bool {
	return p.bind.Equal(q.bind) && p.timeout == q.timeout && cap(p.slots) == cap(q.slots) &&
		slices.EqualFunc(p.servers, q.servers, func(a, b ldapServer) bool {
			return a.url == b.url && a.plain == b.plain && (a.tls.RootCAs == nil) == (b.tls.RootCAs == nil) &&
				(a.tls.RootCAs == nil || a.tls.RootCAs.Equal(b.tls.RootCAs))
		})
}

// do asks a question on a connection of the pool: of the first server that
// answers. A connection that was left idle may be dead: then the question is
// asked once more on a new one.
func (p *ldapPool) do(ctx context.Context, step string, question func(*ldapConn) error) (server int, err error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return 0, fmt.Errorf("ldap: all %d connections are in use: %w: %w", cap(p.slots), context.Cause(ctx), ErrUnavailable)
	}
	var down []error
	for i := range p.servers {
		err := p.askServer(ctx, i, step, question)
		if !gone(err) {
			return i, err
		}
		down = append(down, err)
		if ctx.Err() != nil {
			break
		}
	}
	return 0, ldapDown(down)
}

func (p *ldapPool) askServer(ctx context.Context, i int, step string, question func(*ldapConn) error) error {
	if c := p.take(i); c != nil {
		err := p.on(ctx, c, step, question)
		if !gone(err) || canceled(ctx) {
			return err
		}
		p.drop(i) // the others are as old
		if errors.Is(err, context.DeadlineExceeded) {
			p.lost(ctx, i, err)
			return err
		}
	}
	c, err := p.connect(ctx, i)
	if err != nil {
		return err
	}
	if err = p.on(ctx, c, step, question); gone(err) {
		p.lost(ctx, i, err)
	}
	return err
}

// canceled is true once whoever asked is gone: that says nothing about a server.
func canceled(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }

// on asks on c, and keeps it if it is good for more.
func (p *ldapPool) on(ctx context.Context, c *ldapConn, step string, question func(*ldapConn) error) error {
	err := c.ask(ctx, p.timeout, func() error { return question(c) })
	if err != nil && !errors.Is(err, errTooManyEntries) {
		err = p.servers[c.server].failed(step, err)
	}
	if gone(err) || errors.Is(err, errLDAPAnswer) || c.IsClosing() {
		_ = c.Close()
		return err
	}
	p.put(c)
	return err
}

// connect is a new connection to a server, logged in for searches. A server that
// was down is tried by one, the others go on without it meanwhile.
func (p *ldapPool) connect(ctx context.Context, i int) (*ldapConn, error) {
	if err := p.barred(i); err != nil {
		return nil, err
	}
	c, err := p.dial(ctx, i)
	if err != nil {
		return nil, err
	}
	if p.bind.Kind == Basic {
		err = c.ask(ctx, p.timeout, func() error { return c.Bind(p.bind.User, p.bind.Secret()) })
	}
	if err != nil {
		_ = c.Close()
		err = p.servers[i].failed("bind", err)
		if gone(err) {
			p.lost(ctx, i, err)
		} else {
			p.leave(i, err, ldapLocked)
		}
		return nil, err
	}
	p.leave(i, nil, 0)
	return c, nil
}

func (p *ldapPool) dial(ctx context.Context, i int) (*ldapConn, error) {
	c, err := p.servers[i].dial(ctx, p.timeout)
	if err != nil {
		p.lost(ctx, i, err)
		return nil, err
	}
	c.server = i
	return c, nil
}

// barred is why a server is not asked now.
func (p *ldapPool) barred(i int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.state[i]
	if s.why == nil {
		return nil
	}
	now := p.now()
	if now.Before(s.until) {
		return s.why
	}
	s.until = now.Add(p.timeout) // whoever is first tries
	return nil
}

// lost notes that a server did not answer, unless whoever asked did not wait for
// it: then the next one tries.
func (p *ldapPool) lost(ctx context.Context, i int, err error) {
	if !canceled(ctx) {
		p.leave(i, err, ldapPause)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := &p.state[i]; s.why != nil {
		s.until = p.now()
	}
}

// leave notes that a server is not to be asked for d, or that it is (nil).
func (p *ldapPool) leave(i int, why error, d time.Duration) {
	if why != nil {
		p.drop(i)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state[i] = ldapState{why, p.now().Add(d)}
}

// take is a connection to a server that nobody uses, nil if there is none alive.
func (p *ldapPool) take(i int) *ldapConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at := len(p.free) - 1; at >= 0; at-- {
		c := p.free[at]
		if c.server != i {
			continue
		}
		p.free = slices.Delete(p.free, at, at+1)
		if c.expire.Stop() && !c.IsClosing() {
			return c
		}
		go c.Close()
	}
	return nil
}

func (p *ldapPool) put(c *ldapConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) >= cap(p.slots) {
		go c.Close()
		return
	}
	c.expire = time.AfterFunc(p.idle, func() { p.end(c) })
	p.free = append(p.free, c)
}

// end closes a connection that nobody took.
func (p *ldapPool) end(c *ldapConn) {
	p.mu.Lock()
	p.free = slices.DeleteFunc(p.free, func(one *ldapConn) bool { return one == c })
	p.mu.Unlock()
	_ = c.Close()
}

// drop closes what nobody uses of a server's.
func (p *ldapPool) drop(i int) {
	for c := p.take(i); c != nil; c = p.take(i) {
		_ = c.Close()
	}
}

// login binds as dn, on a connection of its own to the server that told of dn, or
// else another. Once a password was sent it is not sent again: it may have been
// counted.
func (p *ldapPool) login(ctx context.Context, first int, dn, password string) error {
	var down []error
	for n := range p.servers {
		i := (first + n) % len(p.servers)
		if err := p.barred(i); err != nil {
			down = append(down, err)
			continue
		}
		c, err := p.dial(ctx, i)
		if err != nil {
			down = append(down, err)
			continue
		}
		defer c.Close()
		var answer *ldap.SimpleBindResult
		err = c.ask(ctx, p.timeout, func() (err error) {
			answer, err = c.SimpleBind(&ldap.SimpleBindRequest{Username: dn, Password: password, Controls: []ldap.Control{ldap.NewControlBeheraPasswordPolicy()}})
			return err
		})
		err = p.servers[i].refusal(answer, err)
		if gone(err) {
			p.lost(ctx, i, err)
		} else {
			p.leave(i, nil, 0)
		}
		return err
	}
	return ldapDown(down)
}
