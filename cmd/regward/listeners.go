package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// listeners are all open ones, with the servers on them.
type listeners struct {
	mu    sync.Mutex
	all   []listening
	first net.Addr // of the first public listener
	plain bool     // one of tls.http_listen is open
	admin []net.Addr
	probe []net.Addr

	left  atomic.Bool  // nothing more is accepted, or by another process
	conns atomic.Int64 // open ones
	fresh sync.Map     // net.Conn: those that no request has come by yet
}

// listening is one listener and its server.
type listening struct {
	net.Listener
	server *http.Server
	tls    bool
	public bool          // drained at the end; the others answer until then
	name   string        // its address, as the configuration has it
	socket net.Listener  // below what is on it
	over   chan struct{} // closed when it accepts no more, and all that it has accepted is the server's
}

func (ls *listeners) add(l listening) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l.over = make(chan struct{})
	ls.all = append(ls.all, l)
}

// serve starts every server; the channel tells the first that failed.
func (ls *listeners) serve() <-chan error {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	failed := make(chan error, len(ls.all))
	for _, l := range ls.all {
		go func() {
			defer close(l.over)
			var err error
			if l.tls {
				err = l.server.ServeTLS(l.Listener, "", "")
			} else {
				err = l.server.Serve(l.Listener)
			}
			if !errors.Is(err, http.ErrServerClosed) && !ls.left.Load() {
				failed <- fmt.Errorf("listener %s: %w", l.Addr(), err)
			}
		}()
	}
	return failed
}

// count is told of every connection that opens, is used or ends.
func (ls *listeners) count(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		ls.conns.Add(1)
		ls.fresh.Store(c, nil)
		return
	case http.StateIdle: // after each request: it was active before, and is in no list
		return
	case http.StateClosed, http.StateHijacked:
		ls.conns.Add(-1)
	}
	ls.fresh.Delete(c)
}

// unheard reports whether somebody has connected and sent no request yet.
func (ls *listeners) unheard() (is bool) {
	ls.fresh.Range(func(any, any) bool {
		is = true
		return false
	})
	return is
}

// leave stops accepting on the public listeners, or on the others. What has been
// accepted is known to its server then: one that is shut down between the two
// forgets a connection.
func (ls *listeners) leave(public bool) {
	ls.left.Store(true)
	for _, l := range ls.all {
		if l.public == public {
			l.Listener.Close()
			<-l.over
		}
	}
}

// shutdown ends the public servers, or the others, when their requests have
// ended, or, when ctx does, at once.
func (ls *listeners) shutdown(ctx context.Context, public bool) error {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.leave(public)
	// net/http forgets a first request that comes from now on.
	short, cancel := context.WithTimeout(ctx, firstTime)
	defer cancel()
	awaitUntil(short, func() bool { return !ls.unheard() })
	var errs []error
	done := map[*http.Server]bool{}
	for _, l := range ls.all {
		if l.public != public || done[l.server] {
			continue
		}
		done[l.server] = true
		if err := l.server.Shutdown(ctx); err != nil {
			errs = append(errs, err)
			l.server.Close()
		}
	}
	return errors.Join(errs...)
}

// close ends everything at once.
func (ls *listeners) close() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range ls.all {
		l.server.Close()
		l.Listener.Close() // also those that were never served
	}
	ls.all = nil
}
