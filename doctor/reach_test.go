package doctor_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/regward/regward/doctor"
)

func TestNamesAndPorts(t *testing.T) {
	f := newFake()
	o := f.start(t)

	none := o
	none.Lookup = func(context.Context, string) ([]netip.Addr, error) {
		return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
	}
	r := doctor.Run(t.Context(), none)
	says(t, r, "has no address", "problem dns")
	if untried(r, "tls") != "the name has no address" || untried(r, "location") == "" {
		t.Errorf("not tried: %+v", r.NotTried)
	}

	// Two families, one of them dead.
	half := o
	half.Lookup = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")}, nil
	}
	r = doctor.Run(t.Context(), half)
	says(t, r, "and not at ::1")
	if !has(r, doctor.Note, "port") || !has(r, doctor.OK, "upload") {
		t.Errorf("one dead address on loopback: %s", words(t, r))
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	closed := o
	closed.Target.Port = port
	says(t, doctor.Run(t.Context(), closed), "connection refused", "problem port")
}

// A deaf address is given up when the step's time is over.
func TestADeafServerIsGivenUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := newFake().options(t, "https://"+l.Addr().String())
	o.Step = 200 * time.Millisecond
	says(t, doctor.Run(t.Context(), o), "no answer in time", "problem tls")

	f := newFake()
	f.ping = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	o = f.start(t)
	o.Step = time.Second
	says(t, doctor.Run(t.Context(), o), "no answer in 1s", "problem answer")
}

func TestSomethingElseSpeaks(t *testing.T) {
	plain := newFake()
	plain.leaf = nil
	o := plain.start(t)
	o.Target.Scheme = "https"
	says(t, doctor.Run(t.Context(), o), "speaks plain HTTP, not TLS", "problem port")

	secure := newFake()
	o = secure.start(t)
	o.Target.Scheme = "http"
	says(t, doctor.Run(t.Context(), o), "the port speaks TLS", "problem port")

	o.Target.Port, o.Target.Scheme = banner(t, "SSH-2.0-OpenSSH_9.2\r\n"), "https"
	says(t, doctor.Run(t.Context(), o), "SSH-2.0-OpenSSH_9.2", "problem port")
	o.Target.Scheme = "http"
	says(t, doctor.Run(t.Context(), o), "is no HTTP", "problem port")
}

// banner speaks first, and to everybody the same.
func banner(t testing.TB, text string) (port string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, text)
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// connectProxy is a proxy that knows CONNECT, and where the registry is.
func connectProxy(t testing.TB, to string, status int) (url string) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status != http.StatusOK || r.Method != http.MethodConnect {
			w.WriteHeader(status)
			return
		}
		c, err := net.Dial("tcp", to)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer c.Close()
		mine, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer mine.Close()
		_, _ = io.WriteString(mine, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() { _, _ = io.Copy(c, buffered) }()
		_, _ = io.Copy(mine, c)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestAProxyOfTheEnvironmentIsSaidAndUsed(t *testing.T) {
	f := newFake()
	o := f.start(t)
	through := func(proxy, not string) doctor.Options {
		p := o
		p.Lookup = func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("only the proxy knows") }
		p.Getenv = func(name string) string {
			return map[string]string{"HTTPS_PROXY": strings.Replace(proxy, "://", "://me:proxy-secret@", 1), "NO_PROXY": not}[name]
		}
		return p
	}
	proxy := connectProxy(t, "127.0.0.1:"+o.Target.Port, 200)
	r := doctor.Run(t.Context(), through(proxy, ""))
	says(t, r, "do not see this shell's environment", "warning proxy")
	if all := words(t, r); strings.Contains(all, "proxy-secret") || !has(r, doctor.OK, "upload") {
		t.Errorf("through the proxy:\n%s", all)
	}
	says(t, doctor.Run(t.Context(), through(proxy, host)), "only the proxy knows", "problem dns")
	says(t, doctor.Run(t.Context(), through(connectProxy(t, "", 403), "")), "allow CONNECT to", "warning proxy", "problem proxy")
	says(t, doctor.Run(t.Context(), through("http://127.0.0.1:1", "")), "does not answer", "warning proxy", "problem proxy")
}
