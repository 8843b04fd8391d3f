package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// gate is a body that stops half way until it is let go on.
type gate struct {
	rest    []byte
	half    int // bytes left where it stops
	reached chan struct{}
	open    chan struct{}
}

func newGate(content []byte) *gate {
	return &gate{content, len(content) / 2, make(chan struct{}), make(chan struct{})}
}

func (b *gate) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	if len(b.rest) <= b.half && b.half > 0 {
		b.half = 0
		close(b.reached)
		<-b.open
	}
	n := copy(p, b.rest[:min(len(b.rest), 32<<10)])
	b.rest = b.rest[n:]
	return n, nil
}

// transfers are a push and a pull under way by each version of HTTP.
type transfers struct {
	gates []*gate
	ended chan error
}

// startTransfers returns once each is half way. Those of HTTP/2 share one
// connection, as a client's do.
func startTransfers(t *testing.T, g *regward, layer string) *transfers {
	t.Helper()
	tr := &transfers{ended: make(chan error, 4)}
	t.Cleanup(tr.goOn)
	ctx := t.Context()
	for i, version := range []string{"HTTP/1.1", "HTTP/2"} {
		c := newCaller(g, version, false)
		repository := fmt.Sprintf("coolteam/app%d", i)
		token, err := c.token(ctx, "ann", "repository:"+repository+":pull,push")
		if err != nil {
			t.Fatal(err)
		}
		a, err := c.must(ctx, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", token, nil, http.StatusAccepted)
		if err != nil {
			t.Fatal(err)
		}
		content := noise(1 << 20)
		b := newGate(content)
		tr.gates = append(tr.gates, b)
		go func() { // a whole layer in one PUT, as crane does
			_, err := c.must(ctx, http.MethodPut, withDigest(a.header.Get("Location"), string(content)), token, b, http.StatusCreated)
			tr.ended <- err
		}()
		slow := startSlowPullBy(t, c, layer)
		go func() {
			<-b.open
			tr.ended <- slow.rest()
		}()
	}
	for _, b := range tr.gates {
		select {
		case <-b.reached:
		case <-time.After(time.Minute):
			t.Fatal("a push does not get half way")
		}
	}
	return tr
}

// startSlowPullBy is startSlowPull over c's connection.
func startSlowPullBy(t *testing.T, c *caller, layer string) *slowPull {
	t.Helper()
	token, err := c.token(t.Context(), "", "repository:library/big:pull")
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+c.g.host+"/v2/library/big/blobs/"+layer, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", token)
	response, err := c.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return &slowPull{response: response, want: layer}
}

// goOn lets all of them end.
func (tr *transfers) goOn() {
	for _, b := range tr.gates {
		select {
		case <-b.open:
		default:
			close(b.open)
		}
	}
}

// whole demands that each has ended well.
func (tr *transfers) whole(t *testing.T) {
	t.Helper()
	for range cap(tr.ended) {
		select {
		case err := <-tr.ended:
			if err != nil {
				t.Errorf("a transfer that was under way: %v", err)
			}
		case <-time.After(time.Minute):
			t.Fatal("a transfer does not end")
		}
	}
}

// closesListener waits until nobody listens any more.
func (g *regward) closesListener(t *testing.T) {
	t.Helper()
	eventually(t, "regward takes no more connections", 40*time.Second, func() error {
		c, err := net.Dial("tcp", g.host)
		if err == nil {
			c.Close()
			return errors.New("it does")
		}
		return nil
	})
}

// endsWithin demands the end of the process, with exit code 0.
func (g *regward) endsWithin(t *testing.T, limit time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	select {
	case <-g.proc.done:
	case <-time.After(limit):
		t.Fatalf("it is still there after %v", limit)
	}
	if g.proc.err != nil {
		t.Errorf("it ended with %v", g.proc.err)
	}
	return time.Since(began)
}

func TestSIGTERMUnderTransfers(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	layer := u.hasBlob(t, "library/big", noise(32<<20))
	t.Run("they finish whole", func(t *testing.T) { finishWhole(t, u, layer) })
	t.Run("a second SIGTERM ends them at once", func(t *testing.T) { secondEndsAtOnce(t, u, layer) })
	t.Run("shutdown_timeout cuts them", func(t *testing.T) { timeoutCuts(t, u, layer) })
}

func finishWhole(t *testing.T, u *upstream, layer string) {
	t.Parallel()
	g := startRegward(t, u, teamRules+"shutdown_delay: 5s\nshutdown_timeout: 60s\n")
	tr := startTransfers(t, g, layer)
	g.proc.signal(t, syscall.SIGTERM)
	eventually(t, "regward says that it is going", 4*time.Second, func() error {
		if g.ready() == nil {
			return errors.New("it is still ready")
		}
		return nil
	})
	// Balancers need a while to notice: what they still send is served.
	for _, c := range callers(g) {
		if _, err := c.token(t.Context(), "ann", "repository:library/big:pull"); err != nil {
			t.Errorf("within shutdown_delay, by %s: %v", c.name, err)
		}
	}
	g.closesListener(t)
	if err := g.ready(); err == nil || g.proc.ended() {
		t.Errorf("while transfers end /readyz says %v; ended: %v", err, g.proc.ended())
	}
	tr.goOn()
	tr.whole(t)
	g.endsWithin(t, 20*time.Second)
}

func secondEndsAtOnce(t *testing.T, u *upstream, layer string) {
	t.Parallel()
	g := startRegward(t, u, teamRules+"shutdown_delay: 10m\nshutdown_timeout: 10m\n")
	tr := startTransfers(t, g, layer)
	g.proc.signal(t, syscall.SIGTERM)
	eventually(t, "regward says that it is going", 10*time.Second, func() error {
		if g.ready() == nil {
			return errors.New("it is still ready")
		}
		return nil
	})
	g.proc.signal(t, syscall.SIGTERM)
	took := g.endsWithin(t, 20*time.Second)
	t.Logf("it ended %v after the second", took)
	tr.broken(t)
}

func timeoutCuts(t *testing.T, u *upstream, layer string) {
	t.Parallel()
	g := startRegward(t, u, teamRules+"shutdown_delay: 0s\nshutdown_timeout: 3s\n")
	tr := startTransfers(t, g, layer)
	g.proc.signal(t, syscall.SIGTERM)
	if took := g.endsWithin(t, 30*time.Second); took < 2*time.Second {
		t.Errorf("it ended after %v, want shutdown_timeout: 3s", took)
	}
	tr.broken(t)
}

// broken demands that none of them looks like success.
func (tr *transfers) broken(t *testing.T) {
	t.Helper()
	tr.goOn()
	for range cap(tr.ended) {
		select {
		case err := <-tr.ended:
			if err == nil {
				t.Error("a transfer that was cut looks like success")
			} else if errors.Is(err, context.Canceled) {
				t.Errorf("not what regward did: %v", err)
			}
		case <-time.After(time.Minute):
			t.Fatal("a transfer does not end")
		}
	}
}
