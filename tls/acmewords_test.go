package tls_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"

	regtls "github.com/regward/regward/tls"
)

func problem(kind, detail string) error {
	return fmt.Errorf("[registry.example.com] %w (ca=x)", acme.Problem{Type: acme.ProblemTypeNamespace + kind, Status: 403, Detail: detail})
}

func TestWhatACASaysIsPutIntoWordsAndListenedTo(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name       string
		err        error
		failures   int
		challenges [][2]string
		own        bool // a CA of one's own, with an account outside
		want       string
		wait       time.Duration
	}{
		{"each challenge", problem("connection", "x: refused"), 1, [][2]string{{"http-01", "10.1.2.3: Connection refused"}, {"tls-alpn-01", "10.1.2.3: Timeout"}}, false,
			"Let's Encrypt could not validate it: HTTP-01 (http://registry.example.com, port 80): 10.1.2.3: Connection refused; TLS-ALPN-01 (registry.example.com, port 443): 10.1.2.3: Timeout", time.Minute},
		{"often", problem("dns", "NXDOMAIN"), 5, [][2]string{{"dns-01", "NXDOMAIN"}}, false,
			"Let's Encrypt could not validate it: DNS-01 (TXT record of _acme-challenge.registry.example.com): NXDOMAIN", time.Hour},
		{"very often", problem("dns", "NXDOMAIN"), 500, [][2]string{{"dns-01", "NXDOMAIN"}}, false, "", 6 * time.Hour},
		{"refused name", problem("rejectedIdentifier", "policy\nforbids"), 1, nil, false, "Let's Encrypt gives none for this name: policy forbids", time.Minute},
		{"rate limit", problem("rateLimited", "too many certificates (5) already issued, retry after 2026-11-23 08:00:00 UTC: see x"), 1, nil, false,
			"Let's Encrypt was asked too often: too many certificates (5) already issued, retry after 2026-11-23 08:00:00 UTC: see x", 22*time.Hour + time.Minute},
		{"rate limit without a time", problem("rateLimited", "slow down"), 1, nil, false, "", time.Hour},
		{"rate limit for ever", problem("rateLimited", "retry after 2126-11-23 08:00:00 UTC"), 1, nil, false, "", 7 * 24 * time.Hour},
		{"customers", problem("externalAccountRequired", "no EAB"), 1, nil, false,
			"Let's Encrypt gives certificates to its customers alone (no EAB): set tls.acme_eab.key_id and mac_key as it gives them", time.Minute},
		{"unknown customer", problem("unauthorized", "the field 'kid' references a key that is not known"), 1, nil, true,
			"ca.example refuses: the field 'kid' references a key that is not known; if it does not know the account, check tls.acme_eab.key_id and mac_key", time.Minute},
		{"mail", problem("invalidContact", "no such domain"), 1, nil, false, "Let's Encrypt does not take tls.acme_email: no such domain", time.Minute},
		{"its own fault", problem("serverInternal", "oops"), 1, nil, false, "Let's Encrypt refuses (serverInternal): oops", 10 * time.Second},
		{"no challenge", errors.New("solving challenges: registry.example.com: no solvers available for remaining challenges"), 1, nil, false,
			"Let's Encrypt offers no challenge that can be answered here: set tls.http_listen, or tls.acme_dns", 10 * time.Second},
		{"DNS", fmt.Errorf("presenting: %w", &regtls.DNSError{Server: "10.0.0.53:53", Msg: "answers REFUSED"}), 2, nil, false, "DNS-01: DNS server 10.0.0.53:53 answers REFUSED", 20 * time.Second},
		{"away", fmt.Errorf("x: %w", &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}), 100, nil, true,
			"https://ca.example/dir cannot be reached: dial tcp: connection refused", 10 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := regtls.ACMEOptions{Hosts: []string{"registry.example.com"}, Directory: regtls.LetsEncrypt}
			if tt.own {
				o.Directory, o.EAB.KeyID = "https://ca.example/dir", "kid"
			}
			got, wait := o.Words(tt.err, tt.failures, now, tt.challenges...)
			if tt.want != "" && got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if wait != tt.wait {
				t.Errorf("waits %v, want %v", wait, tt.wait)
			}
		})
	}
}

func TestWhatACASaysIsBounded(t *testing.T) {
	o := regtls.ACMEOptions{Hosts: []string{"a.example"}, Directory: regtls.LetsEncrypt}
	got, _ := o.Words(problem("malformed", strings.Repeat("long\x1b[31m ", 10_000)), 1, time.Now())
	if len(got) > 1000 || strings.ContainsRune(got, 0x1b) {
		t.Errorf("%d bytes: %.100q", len(got), got)
	}
}

func TestM17_ANameThatOnlyWeReachIsTold(t *testing.T) {
	look := func(_ context.Context, host string) ([]net.IP, error) {
		switch host {
		case "docker.acme.example":
			return []net.IP{net.ParseIP("10.1.2.3")}, nil
		case "both.example":
			return []net.IP{net.ParseIP("10.1.2.3"), net.ParseIP("192.0.2.7")}, nil
		}
		return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
	}
	const m17 = "hostname docker.acme.example resolves to 10.1.2.3, which Let's Encrypt cannot reach. Set tls.cert_file and tls.key_file, or tls.mode: internal, or tls.acme_directory."
	for host, want := range map[string]string{"docker.acme.example": m17, "both.example": "", "nowhere.example": "", "192.0.2.7": ""} {
		if got := regtls.Unreachable(background, look, host); got != want {
			t.Errorf("%s: got %q", host, got)
		}
	}
	if got := regtls.Unreachable(background, look, "192.168.1.1"); !strings.Contains(got, "192.168.1.1") {
		t.Errorf("an address: got %q", got)
	}
}

func TestADirectoryIsAskedBeforeItIsNeeded(t *testing.T) {
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good":
			fmt.Fprint(w, `{"newOrder":"https://ca.example/order"}`)
		case "/customers":
			fmt.Fprint(w, `{"newOrder":"https://ca.example/order","meta":{"externalAccountRequired":true}}`)
		case "/page":
			fmt.Fprint(w, "<html>welcome")
		default:
			http.NotFound(w, r)
		}
	})
	server := httptest.NewTLSServer(answer)
	defer server.Close()
	ca := pemOf(server.Certificate())
	other := pemOf(newCA(t, "other", nil).cert)
	for _, tt := range []struct {
		path string
		ca   []byte
		eab  string
		want string // "" for no error
	}{
		{"/good", ca, "", ""},
		{"/customers", ca, "kid", ""},
		{"/customers", ca, "", "to its customers alone: set tls.acme_eab.key_id"},
		{"/page", ca, "", "does not answer with an ACME directory: check tls.acme_directory"},
		{"/none", ca, "", "answers 404 Not Found and no ACME directory: check tls.acme_directory"},
		{"/good", other, "", "does not come from the CA in tls.acme_ca_file"},
		{"/good", nil, "", "of a CA that is not known here: name it in tls.acme_ca_file"},
		{"/good", []byte("x"), "", "holds no certificate in PEM form"},
	} {
		err := regtls.CheckDirectory(background, regtls.ACMEOptions{Directory: server.URL + tt.path, CA: tt.ca, EAB: regtls.EAB{KeyID: tt.eab}})
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.path, err, tt.want)
		}
	}
	server.Close()
	if err := regtls.CheckDirectory(background, regtls.ACMEOptions{Directory: server.URL + "/good", CA: ca}); err == nil || !strings.Contains(err.Error(), "cannot be reached") {
		t.Errorf("nobody there: got %v", err)
	}
}
