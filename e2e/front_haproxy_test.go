package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// haproxy leaves TLS to regward; each version of the header, and both ways to
// ask whether an instance is there.
func TestBehindHaproxyThatSendsAPROXYHeader(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, from, to string }{
		{"v2, asking the health port", "", ""},
		{"v1, asking the port of clients", "send-proxy-v2 check port HEALTH", "send-proxy check check-send-proxy"},
		{"v2, asking the port of clients", "send-proxy-v2 check port HEALTH", "send-proxy-v2 check check-send-proxy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := startFronted(t, "", "proxy_protocol: {from: 127.0.0.1}\n")
			port := freePort(t)
			health := f.health[strings.LastIndexByte(f.health, ':')+1:]
			config := deployed(t, "haproxy-tcp.cfg", "bind :443", fmt.Sprintf("bind 127.0.0.1:%d", port), "port 9781 inter 2s", "port "+health+" inter 100ms",
				"10.0.0.11:8443", f.address(), "  server regward2 10.0.0.12:8443\n", "")
			if tt.from != "" {
				config = strings.Replace(config, "  option httpchk GET /readyz\n", "", 1)
				config = strings.Replace(config, strings.Replace(tt.from, "HEALTH", health, 1), tt.to, 1)
			}
			f.listens(port, startFrontHaproxy(t, config))
			f.works("crane")
			if out := f.proc.output(); strings.Contains(out, "PROXY header") {
				t.Errorf("haproxy's checks are no news:\n%s", tail(out, 5))
			}
		})
	}
}

// haproxy ends TLS, as an ingress does.
func TestBehindHaproxyThatEndsTLS(t *testing.T) {
	t.Parallel()
	f := startFronted(t, `tls: {mode: "off"}`, "trusted_proxies: 127.0.0.1\n")
	port := freePort(t)
	f.listens(port, startFrontHaproxy(t, haproxyCfg(t, port, f, "")))
	f.works("docker", "crane")
}

func haproxyCfg(t testing.TB, port int, f *fronted, source string) string {
	health := f.health[strings.LastIndexByte(f.health, ':')+1:]
	return deployed(t, "haproxy.cfg", "bind :443 ssl", fmt.Sprintf("bind 127.0.0.1:%d ssl", port), "/etc/haproxy/registry.pem", bothPEM(t),
		"port 9781 inter 2s", "port "+health+" inter 100ms "+source, "10.0.0.11:8443", f.address(), "  server regward2 10.0.0.12:8443\n", "")
}

// What a balancer of TCP says comes first, and what a proxy says of HTTP counts
// only where that one is trusted: clients, nginx at 127.0.0.2, haproxy at
// 127.0.0.3, regward.
func TestAProxyBehindABalancer(t *testing.T) {
	t.Parallel()
	f := startFronted(t, `tls: {mode: "off"}`, "proxy_protocol: {from: 127.0.0.3}\ntrusted_proxies: 127.0.0.2\n")
	balancer, port, plain := freePort(t), freePort(t), freePort(t)
	startFrontHaproxy(t, deployed(t, "haproxy-tcp.cfg", "bind :443", fmt.Sprintf("bind 127.0.0.1:%d", balancer),
		"check port 9781 inter 2s fall 1 rise 1", "source 127.0.0.3", "  option httpchk GET /readyz\n", "",
		"10.0.0.11:8443", f.address(), "  server regward2 10.0.0.12:8443\n", ""))
	config := nginxConf(t, port, plain, fmt.Sprintf("http://127.0.0.1:%d", balancer))
	f.listens(port, startFrontNginx(t, strings.Replace(config, "      proxy_http_version", "      proxy_bind 127.0.0.2;\n      proxy_http_version", 1)))
	f.works("crane")
	// Who comes to the balancer past nginx is no proxy.
	direct := &fronted{regward: f.regward, t: t, front: f.front, at: fmt.Sprintf("127.0.0.1:%d", balancer)}
	c, err := direct.dial("127.0.0.4")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nUser-Agent: past-nginx\r\nX-Forwarded-For: 127.0.0.8\r\n\r\n")
	f.logsFrom("past-nginx", "127.0.0.4")
}

// Two proxies of HTTP behind each other, both trusted.
func TestAChainOfProxies(t *testing.T) {
	t.Parallel()
	f := startFronted(t, `tls: {mode: "off"}`, "trusted_proxies: [127.0.0.1, 127.0.0.2]\n")
	inner, port, plain := freePort(t), freePort(t), freePort(t)
	startFrontHaproxy(t, haproxyCfg(t, inner, f, ""))
	config := nginxConf(t, port, plain, fmt.Sprintf("https://127.0.0.1:%d", inner))
	f.listens(port, startFrontNginx(t, strings.Replace(config, "      proxy_http_version", "      proxy_bind 127.0.0.2;\n      proxy_http_version", 1)))
	f.works("crane")
}

// A balancer that was forgotten in the configuration, and one that sends no
// header: nothing works, and the log says what to do.
func TestABalancerThatIsNotConfigured(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, more, from, to, words string }{
		{"it is not named", "proxy_protocol: {from: 127.0.0.3}\n", "", "", "a PROXY header came from 127.0.0.1, which is not in proxy_protocol.from: connection closed"},
		{"there is no proxy_protocol", "", "", "", "name it there: proxy_protocol: {from: 127.0.0.1}"},
		{"it sends none", "proxy_protocol: {from: 127.0.0.1}\n", "  default-server send-proxy-v2", "", "no PROXY header came from 127.0.0.1, which is in proxy_protocol.from"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := startFronted(t, "", tt.more)
			port := freePort(t)
			config := deployed(t, "haproxy-tcp.cfg", "bind :443", fmt.Sprintf("bind 127.0.0.1:%d", port), " check port 9781 inter 2s fall 1 rise 1", "",
				"  option httpchk GET /readyz\n", "", "10.0.0.11:8443", f.address(), "  server regward2 10.0.0.12:8443\n", "")
			config = strings.Replace(config, tt.from, tt.to, 1)
			p := startFrontHaproxy(t, config)
			f.front, f.at = fmt.Sprintf("localhost:%d", port), fmt.Sprintf("127.0.0.1:%d", port)
			eventually(t, "the log says what is wrong", 30*time.Second, func() error {
				if status, _, err := f.ask("127.0.0.5", http.MethodGet, "/v2/", ""); err == nil {
					return fmt.Errorf("answered %d", status)
				}
				if !strings.Contains(f.proc.output(), tt.words) {
					return errors.Join(p.gone(), errors.New(tail(f.proc.output(), 5)))
				}
				return nil
			})
		})
	}
}
