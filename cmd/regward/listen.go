package main

import (
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/regward/regward/configs"
	"github.com/regward/regward/proxy"
)

// Modes of unix sockets. The public one takes what a port would take; the
// admin one is as good as a password.
const (
	publicSocket = 0o666
	adminSocket  = 0o600
)

// listen opens everything the configuration names. Only the redirecting
// listener may fail without failing the start.
func (s *server) listen() error {
	cfg := s.first
	words := &headerWords{log: s.log, now: s.now}
	public := s.newHTTPServer(s.handler)
	public.ConnContext = proxy.WithConn
	// Moved while a transfer goes on, and while the upstream may take its time.
	for i := range cfg.Upstreams {
		public.WriteTimeout = max(public.WriteTimeout, time.Duration(cfg.IdleTimeout+cfg.Upstreams[i].HeaderTimeout))
	}
	if cfg.TLS.Mode != configs.TLSOff {
		public.TLSConfig = s.asking(s.certs.config())
	}
	open := false // others than this machine can connect
	err := s.openAll("listen", cfg.Listen, publicSocket, func(l net.Listener, name string) listening {
		if s.listeners.first == nil {
			s.listeners.first = l.Addr()
		}
		open = open || !onlyHere(l.Addr())
		clients := patient{&fronted{l, s.senders, false, headerTime, words}, time.Duration(cfg.IdleTimeout)}
		return listening{clients, public, public.TLSConfig != nil, true, name, l, nil}
	})
	if err != nil {
		return err
	}
	if open && public.TLSConfig == nil && len(cfg.TrustedProxies)+len(cfg.ProxyProtocol.From) == 0 { // else the configuration was refused already
		return errors.New("tls.mode: off, while a socket of systemd's can be reached from other machines: passwords would travel in the clear; have its unit say ListenStream=127.0.0.1:8080, or name the proxy in front in trusted_proxies, or use tls.mode: internal")
	}
	redirect := s.newHTTPServer(s.challenges(http.HandlerFunc(s.redirect)))
	redirect.ReadTimeout, redirect.WriteTimeout = 10*time.Second, 10*time.Second
	for _, addr := range cfg.TLS.HTTPListen {
		all, err := s.sockets.listen(addr, publicSocket)
		if err != nil {
			s.log.Warn(httpListenFailed(cfg, addr, err))
			continue
		}
		for _, l := range all {
			s.listeners.plain = true
			s.listeners.add(listening{&fronted{l, s.senders, true, headerTime, words}, redirect, false, true, addr, l, nil})
		}
	}
	admin := s.newHTTPServer(s.adminHandler())
	admin.ReadTimeout = 10 * time.Second
	err = s.openAll("admin.listen", cfg.Admin.Listen, adminSocket, func(l net.Listener, name string) listening {
		s.listeners.admin = append(s.listeners.admin, l.Addr())
		return listening{l, admin, false, false, name, l, nil}
	})
	if err != nil {
		return err
	}
	health := s.newHTTPServer(s.healthHandler())
	health.ReadTimeout, health.WriteTimeout = 10*time.Second, 30*time.Second
	return s.openAll("health.listen", cfg.Health.Listen, publicSocket, func(l net.Listener, name string) listening {
		s.listeners.probe = append(s.listeners.probe, l.Addr())
		return listening{l, health, false, false, name, l, nil}
	})
}

// openAll opens the addresses of one key.
func (s *server) openAll(key string, addrs []string, mode os.FileMode, serve func(net.Listener, string) listening) error {
	for _, addr := range addrs {
		all, err := s.sockets.listen(addr, mode)
		if err != nil {
			return fmt.Errorf("%s: %w%s", key, err, listenAdvice(err))
		}
		for _, l := range all {
			s.listeners.add(serve(l, addr))
		}
	}
	return nil
}

// onlyHere reports whether only this machine can connect to addr.
func onlyHere(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

// senders are the networks whose connections begin with a PROXY header now.
func (s *server) senders() []netip.Prefix { return s.live.Load().cfg.ProxyProtocol.From }

// parting has clients come back on another connection, once this process is to
// end: whoever is told so loses no request, and who sends one at the moment that
// an idle connection is closed does. In HTTP/2 it is a GOAWAY.
func (s *server) parting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.leaving.Load() {
			w.Header()["Connection"] = []string{"close"}
		}
		next.ServeHTTP(w, r)
	})
}

// httpListenFailed is M1.
func httpListenFailed(cfg *configs.Config, addr string, err error) string {
	var number syscall.Errno
	cause := err.Error()
	if errors.As(err, &number) {
		cause = number.Error()
	}
	without := "nothing redirects http to https there"
	if cfg.TLS.Mode == configs.TLSACME && !cfg.TLS.ACMEDNS.Set() {
		without = fmt.Sprintf("HTTP-01 is off; TLS-ALPN-01 on %s still works", cfg.Listen[0])
		if !strings.HasSuffix(cfg.Listen[0], ":443") {
			without += ", if port 443 of the name leads there"
		}
	}
	return fmt.Sprintf("tls.http_listen: cannot listen on %s (%s): %s. Set tls.http_listen: off to silence this.", addr, cause, without)
}

// listenAdvice is what to do about err, "" if that is not known.
func listenAdvice(err error) string {
	switch {
	case errors.Is(err, syscall.EACCES):
		return "; ports below 1024 take the capability CAP_NET_BIND_SERVICE, which deploy/regward.service gives, or write \":8443\""
	case errors.Is(err, syscall.EADDRINUSE):
		return "; `ss -ltnp` tells which program listens there"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "; no interface here has that address"
	}
	return ""
}

// openListener listens on host:port or unix:/path. A socket that nobody
// answers on is left over, and removed.
func openListener(addr string, mode os.FileMode) (net.Listener, error) {
	path, unix := strings.CutPrefix(addr, "unix:")
	if !unix {
		return net.Listen("tcp", addr)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		conn, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			conn.Close()
			return nil, fmt.Errorf("%s is in use", addr)
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			if err := os.Remove(path); err != nil {
				return nil, err
			}
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// stdLog is a log for net/http, at debug level.
func (s *server) stdLog() *log.Logger {
	l, err := zap.NewStdLogAt(s.log, zapcore.DebugLevel)
	if err != nil { // only for a level that does not exist
		return log.New(discard{}, "", 0)
	}
	return l
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
