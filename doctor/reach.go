package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/net/http/httpproxy"
)

// maxAddresses is how many of a name's addresses are dialled.
const maxAddresses = 8

// reach finds out whether the host has an address and something listens
// there. Its answer is why nothing further can be done, "" if it can.
func (e *examination) reach(ctx context.Context) string {
	e.readProxy()
	addrs, err := e.lookup(ctx)
	switch {
	case e.via != nil: // the proxy asks DNS, not we
		if err != nil {
			e.note("dns", e.at.Name+" has no address here: "+reason(err), "only what goes through the proxy finds it", "")
		}
		return e.reachProxy(ctx)
	case err != nil:
		e.problem("dns", e.at.Name+" has no address: "+reason(err), "no client can find it",
			"check the spelling; `getent hosts "+e.at.Name+"` has to print an address on every node: make an A or AAAA record, or a line in /etc/hosts")
		return "the name has no address"
	}
	e.addrs = addrs
	return e.dialAll(ctx)
}

// readProxy finds out whether programs of this shell go through a proxy.
func (e *examination) readProxy() {
	get := func(names ...string) string {
		for _, n := range names {
			if v := e.o.Getenv(n); v != "" {
				return v
			}
		}
		return ""
	}
	c := httpproxy.Config{
		HTTPProxy:  get("HTTP_PROXY", "http_proxy"),
		HTTPSProxy: get("HTTPS_PROXY", "https_proxy"),
		NoProxy:    get("NO_PROXY", "no_proxy"),
	}
	e.via, _ = c.ProxyFunc()(&url.URL{Scheme: e.at.Scheme, Host: e.at.Address()}) // one that cannot be parsed is none
	if e.via == nil {
		return
	}
	key := strings.ToUpper(e.at.Scheme) + "_PROXY"
	e.warn("proxy", fmt.Sprintf("%s=%s sends what this shell starts to %s through a proxy", key, e.via.Redacted(), e.at.Name),
		"docker's daemon, containerd and kubelets do not see this shell's environment: what works here may fail there, and the other way round; a proxy may also cut large bodies and show a certificate of its own",
		fmt.Sprintf("for a registry in your own network: NO_PROXY=%s; if clients need the proxy: {\"proxies\": {\"https-proxy\": %q}} in /etc/docker/daemon.json, Environment=%s=... in the units of containerd and kubelet", e.at.Name, e.via.Redacted(), key))
}

func (e *examination) lookup(ctx context.Context) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(e.at.Name); err == nil {
		return []netip.Addr{ip}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.o.Step)
	defer cancel()
	find := e.o.Lookup
	if find == nil {
		find = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	addrs, err := find(ctx, e.at.Name)
	if err == nil && len(addrs) == 0 {
		err = errors.New("no such host")
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, err
}

// dialAll tries every address: clients take one of them, and not always the
// same.
func (e *examination) dialAll(ctx context.Context) string {
	tried := e.addrs[:min(len(e.addrs), maxAddresses)]
	errs := make([]error, len(tried))
	var wg sync.WaitGroup
	for i, addr := range tried {
		wg.Go(func() {
			errs[i] = e.tryDial(ctx, net.JoinHostPort(addr.String(), e.at.Port))
		})
	}
	wg.Wait()
	var alive, dead []string
	var first error
	for i, addr := range tried {
		if errs[i] == nil {
			alive = append(alive, addr.String())
			continue
		}
		dead = append(dead, fmt.Sprintf("%s (%s)", addr, reason(errs[i])))
		if first == nil {
			first = errs[i]
		}
	}
	e.addrs = tried
	switch {
	case len(alive) == 0:
		e.sayClosed(strings.Join(dead, ", "), first)
		return "nothing answers on port " + e.at.Port
	case len(dead) > 0:
		e.sayFound(tried)
		e.sayDead(alive, dead, tried)
	default:
		e.sayFound(tried)
		e.ok("port", "something listens on port "+e.at.Port)
	}
	return ""
}

func (e *examination) sayFound(addrs []netip.Addr) {
	if all := joinAddrs(addrs); all != e.at.Name {
		e.ok("dns", e.at.Name+" is "+all)
	}
}

func (e *examination) tryDial(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, e.o.Step)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err == nil {
		c.Close()
	}
	return err
}

func (e *examination) sayClosed(dead string, err error) {
	what := fmt.Sprintf("nothing answers on port %s of %s", e.at.Port, dead)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		e.problem("port", what, "the host is up, and nobody listens on this port",
			fmt.Sprintf("start the registry or its proxy, or add the port it really has: %s:PORT; `ss -ltnp` on the host shows who listens where", e.at.Name))
	default:
		e.problem("port", what, "packets are lost on the way: a firewall or security group drops them, the host is down, or the address is an old one",
			fmt.Sprintf("open TCP port %s from here to there, and compare the address with the host's own", e.at.Port))
	}
}

// sayDead tells of addresses where nobody answers. That localhost is ::1 as
// well is no mistake of the registry's.
func (e *examination) sayDead(alive, dead []string, tried []netip.Addr) {
	what := fmt.Sprintf("port %s answers at %s, and not at %s", e.at.Port, strings.Join(alive, ", "), strings.Join(dead, ", "))
	loopback := true
	for _, a := range tried {
		loopback = loopback && a.IsLoopback()
	}
	if loopback {
		e.note("port", what, "programs that try one address only may miss it", "")
		return
	}
	e.warn("port", what, "each client picks an address by itself: some fail, or wait until they give up, one time and not the next",
		"listen there too, or take the dead address out of DNS (an AAAA record without IPv6 behind it is the usual one)")
}

// reachProxy dials the proxy.
func (e *examination) reachProxy(ctx context.Context) string {
	address := net.JoinHostPort(e.via.Hostname(), proxyPort(e.via))
	if err := e.tryDial(ctx, address); err != nil {
		e.problem("proxy", fmt.Sprintf("the proxy %s does not answer: %s", address, reason(err)), "everything of this shell goes through it",
			"repair the proxy's address, or NO_PROXY="+e.at.Name)
		return "the proxy does not answer"
	}
	return ""
}

func proxyPort(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "socks5" || u.Scheme == "socks5h":
		return "1080"
	}
	return defaultPort(u.Scheme)
}

func joinAddrs(addrs []netip.Addr) string {
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return strings.Join(all, ", ")
}

// reason is an error of the network in few words.
func reason(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "no such host"
	case errors.As(err, &dns) && (dns.IsTimeout || dns.IsTemporary):
		return "DNS does not answer: " + dns.Err
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset"
	case isTimeout(err):
		return "no answer in time"
	case errors.As(err, &op):
		return op.Err.Error()
	}
	return err.Error()
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}
