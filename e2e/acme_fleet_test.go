package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// Instances that share a Redis are one to the CA: one order, one certificate,
// and whichever of them the CA happens to reach answers for the one that asked.
func TestInstancesWithOneRedisGetOneCertificateBetweenThem(t *testing.T) {
	t.Parallel()
	for _, challenge := range []string{"HTTP-01", "TLS-ALPN-01"} {
		t.Run(challenge+" at the one that did not ask", func(t *testing.T) {
			t.Parallel()
			u := startUpstream(t, distribution)
			u.has(t, "library/hello:1", small(t))
			asks, answers := newAsking(t, u.config), newAsking(t, u.config)
			// The CA comes before the other one is there: the line has it wait.
			var o caOptions
			var to *line
			var more []string
			if challenge == "HTTP-01" {
				to = startLine(t, fmt.Sprintf("127.0.0.1:%d", answers.http))
				o.http = to.port(t)
			} else {
				to = startLine(t, fmt.Sprintf("127.0.0.1:%d", answers.port))
				o.tls, more = to.port(t), []string{"http_listen: \"off\""}
			}
			ca := startPebble(t, o)
			f := []*asking{asks, answers}
			redis := startRedis(t)
			for _, a := range f {
				a.asks(t, ca, []string{theHost}, more...)
				a.configure(t, teamRules+redis.config("")+sharedKey())
			}
			asks.begin(t)
			eventually(t, "the first one has ordered", time.Minute, func() error {
				if ca.orders() == 0 {
					return errors.New("the CA has no order")
				}
				return asks.proc.gone()
			})
			answers.begin(t)
			for _, a := range f {
				a.has(t, theHost)
				eventually(t, "it is ready", time.Minute, a.ready)
				a.pulls(t, theHost, "library/hello:1", a.transport(t))
			}
			if to.connections() == 0 {
				t.Error("the CA never came to the one that did not ask")
			}
			oneCertificate(t, ca, f, 1)

			asks.again(t, false)
			answers.again(t, true)
			oneCertificate(t, ca, f, 1)
		})
	}
}

// oneCertificate demands that all show the same, of so many that the CA gave out.
// A challenge that cannot be answered costs an order, so that there may be more
// of those.
func oneCertificate(t testing.TB, ca *pebble, f []*asking, issued int) {
	t.Helper()
	if first, second := f[0].serial(t, theHost), f[1].serial(t, theHost); first != second {
		t.Errorf("they show different certificates: %s and %s", first, second)
	}
	if n := ca.issued(); n != issued {
		t.Errorf("the CA has given out %d, want %d", n, issued)
	}
	if n := ca.accounts(); n != 1 {
		t.Errorf("the CA has %d accounts, want 1", n)
	}
}

// Three start at the same moment, as after a rollout of all.
func TestInstancesThatStartTogetherOrderOnce(t *testing.T) {
	t.Parallel()
	redis := startRedis(t)
	var f []*asking
	for range 3 {
		f = append(f, newAsking(t, "http://127.0.0.1:1"))
	}
	plain, main := startLine(t, fmt.Sprintf("127.0.0.1:%d", f[0].http)), startLine(t, fmt.Sprintf("127.0.0.1:%d", f[0].port))
	ca := startPebble(t, caOptions{http: plain.port(t), tls: main.port(t), nonces: 20})
	for _, a := range f {
		a.asks(t, ca, []string{theHost})
		a.configure(t, teamRules+redis.config("")+sharedKey())
		a.begin(t)
	}
	for _, a := range f {
		a.has(t, theHost)
	}
	oneCertificate(t, ca, f[:2], 1)
	oneCertificate(t, ca, f[1:], 1)
	if n := ca.orders(); n != 1 {
		t.Errorf("the CA has %d orders, want 1", n)
	}
}

// An instance that ends while it asks, in whatever way, keeps no other from
// asking.
func TestAnInstanceThatEndsWhileItAsksIsReplaced(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]bool{"SIGTERM": false, "SIGKILL": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := startRedis(t)
			ends, stays := newAsking(t, "http://127.0.0.1:1"), newAsking(t, "http://127.0.0.1:1")
			ca := startPebble(t, caOptions{http: stays.http, tls: stays.port})
			wake := ca.silence(t)
			for _, a := range []*asking{ends, stays} {
				a.asks(t, ca, []string{theHost})
				a.configure(t, teamRules+redis.config("")+sharedKey())
			}
			ends.begin(t)
			eventually(t, "it asks", time.Minute, func() error {
				if ca.line.connections() == 0 {
					return errors.New("nobody came")
				}
				return ends.proc.gone()
			})
			stays.begin(t)
			stays.answersHealth(t)
			if crash {
				ends.proc.kill()
			} else if err := ends.proc.stop(); err != nil {
				t.Fatal(err)
			}
			wake()
			stays.has(t, theHost)
			if n := ca.accounts(); n > 2 {
				t.Errorf("%d accounts", n)
			}
		})
	}
}

// A Redis that is away takes no certificate away from who has one, nor from who
// had one when it was ended: each keeps a copy.
func TestALostRedisTakesNoCertificateAway(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	redis := startRedis(t)
	a := newAsking(t, u.config)
	ca := startPebble(t, caOptions{http: a.http, tls: a.port})
	a.asks(t, ca, []string{theHost})
	a.configure(t, teamRules+redis.config("")+sharedKey())
	a.issued(t, theHost)
	was := a.serial(t, theHost)
	redis.proc.kill()
	a.pulls(t, theHost, "library/hello:1", a.transport(t))
	a.again(t, true)
	if now := a.serial(t, theHost); now != was {
		t.Error("another certificate")
	}
	a.pulls(t, theHost, "library/hello:1", a.transport(t))

	redis.launch(t) // empty: the copy goes there, and nothing is ordered
	a.again(t, false)
	other := newAsking(t, u.config)
	other.asks(t, ca, []string{theHost})
	other.configure(t, teamRules+redis.config("")+sharedKey())
	other.issued(t, theHost)
	oneCertificate(t, ca, []*asking{a, other}, 1)
}
