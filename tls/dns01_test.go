package tls_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libdns/libdns"
	"github.com/miekg/dns"

	regtls "github.com/regward/regward/tls"
)

// nameServer takes updates for example.com that are signed with its key.
type nameServer struct {
	mu      sync.Mutex
	records []string
	rcode   int  // answered to each update, in place of doing it
	mute    bool // it accepts connections and says nothing
}

var nameKey = base64.StdEncoding.EncodeToString([]byte("a secret of thirty-two bytes, ok"))

func startNameServer(t *testing.T) (*nameServer, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{}
	started := make(chan struct{})
	server := &dns.Server{
		Listener: l, Handler: s, TsigSecret: map[string]string{"regward.": nameKey}, NotifyStartedFunc: func() { close(started) },
		MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept },
	}
	ended := make(chan error, 1)
	go func() { ended <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { server.Shutdown(); <-ended })
	return s, l.Addr().String()
}

func (s *nameServer) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mute {
		return
	}
	answer := new(dns.Msg).SetReply(m)
	tsig := m.IsTsig()
	switch {
	case m.Opcode != dns.OpcodeUpdate:
		for _, r := range s.records {
			rr, err := dns.NewRR(r)
			if err == nil && rr.Header().Name == m.Question[0].Name {
				answer.Answer = append(answer.Answer, rr)
			}
		}
	case tsig == nil:
		answer.Rcode = dns.RcodeRefused
	case w.TsigStatus() != nil:
		answer.Rcode = dns.RcodeNotAuth
		answer.Extra = append(answer.Extra, &dns.TSIG{
			Hdr:       dns.RR_Header{Name: tsig.Hdr.Name, Rrtype: dns.TypeTSIG, Class: dns.ClassANY},
			Algorithm: tsig.Algorithm, Error: code(tsig, w.TsigStatus()),
		})
	case s.rcode != 0:
		answer.Rcode = s.rcode
	case m.Question[0].Name != "example.com.":
		answer.Rcode = dns.RcodeNotAuth
	default:
		s.update(m.Ns)
	}
	if tsig != nil && w.TsigStatus() == nil {
		answer.SetTsig(tsig.Hdr.Name, tsig.Algorithm, 300, time.Now().Unix())
	}
	_ = w.WriteMsg(answer)
}

func code(tsig *dns.TSIG, err error) uint16 {
	if tsig.Hdr.Name != "regward." || errors.Is(err, dns.ErrSecret) {
		return dns.RcodeBadKey
	}
	return dns.RcodeBadSig
}

func (s *nameServer) update(changes []dns.RR) {
	for _, rr := range changes {
		txt := rr.(*dns.TXT)
		line := fmt.Sprintf("%s 60 IN TXT %q", txt.Hdr.Name, strings.Join(txt.Txt, ""))
		if txt.Hdr.Class == dns.ClassNONE {
			s.records = slices.DeleteFunc(s.records, func(r string) bool { return r == line })
		} else if !slices.Contains(s.records, line) {
			s.records = append(s.records, line)
		}
	}
}

func challengeRecord(value string) []libdns.Record {
	return []libdns.Record{libdns.TXT{Name: "_acme-challenge.registry", Text: value, TTL: time.Minute}}
}

func provider(server string) *regtls.DNS01 {
	return &regtls.DNS01{Server: server, Zone: "example.com", KeyName: "regward", KeySecret: regtls.Secret(nameKey), Algorithm: "hmac-sha256"}
}

var _ interface {
	libdns.RecordAppender
	libdns.RecordDeleter
} = (*regtls.DNS01)(nil)

func TestRFC2136_RecordsAreAddedBesideOthersAndRemovedAlone(t *testing.T) {
	server, at := startNameServer(t)
	for _, algorithm := range []string{"hmac-sha256", "hmac-sha512", "hmac-sha384", "hmac-sha224", "hmac-sha1"} {
		d := provider(at)
		d.Algorithm = algorithm
		for _, value := range []string{"one", "two", "two"} {
			if _, err := d.AppendRecords(background, "example.com", challengeRecord(value)); err != nil {
				t.Fatalf("%s: %v", algorithm, err)
			}
		}
		want := []string{`_acme-challenge.registry.example.com. 60 IN TXT "one"`, `_acme-challenge.registry.example.com. 60 IN TXT "two"`}
		if !slices.Equal(server.records, want) {
			t.Fatalf("%s: the zone has %q", algorithm, server.records)
		}
		if _, err := d.DeleteRecords(background, "example.com.", challengeRecord("one")); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(server.records, want[1:]) {
			t.Errorf("%s: the zone has %q", algorithm, server.records)
		}
		if _, err := d.DeleteRecords(background, "example.com.", challengeRecord("two")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRFC2136_WhatTheServerSaysIsPutIntoWords(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*regtls.DNS01, *nameServer)
		want   []string
	}{
		{"another secret", func(d *regtls.DNS01, _ *nameServer) {
			d.KeySecret = regtls.Secret(base64.StdEncoding.EncodeToString([]byte("another")))
		}, []string{"NOTAUTH/BADSIG", "check tls.acme_dns.key_secret and algorithm"}},
		{"another key", func(d *regtls.DNS01, _ *nameServer) { d.KeyName = "nobody" }, []string{"NOTAUTH/BADKEY", "it has no key nobody", "check tls.acme_dns.key_name and algorithm"}},
		{"another zone", func(d *regtls.DNS01, _ *nameServer) { d.Zone = "example.net" }, []string{"NOTAUTH", "not in charge of zone example.net"}},
		{"may not", func(_ *regtls.DNS01, s *nameServer) { s.rcode = dns.RcodeRefused }, []string{"REFUSED", "may not write TXT records in zone example.com"}},
		{"cannot", func(_ *regtls.DNS01, s *nameServer) { s.rcode = dns.RcodeServerFailure }, []string{"SERVFAIL", "its log says why"}},
		{"nobody there", func(d *regtls.DNS01, _ *nameServer) { d.Server = "127.0.0.1:1" }, []string{"does not answer", "connection refused", "check tls.acme_dns.server"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server, at := startNameServer(t)
			d := provider(at)
			tt.change(d, server)
			_, err := d.AppendRecords(background, d.Zone, challengeRecord("x"))
			var told *regtls.DNSError
			if !errors.As(err, &told) {
				t.Fatalf("got %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want %q in it", err, want)
				}
			}
			if strings.Contains(fmt.Sprintf("%v %+v %#v", err, d, *d), string(d.KeySecret)) {
				t.Error("the secret is shown")
			}
		})
	}
}

func TestRFC2136_AServerThatIsSilentKeepsNobodyForLong(t *testing.T) {
	server, at := startNameServer(t)
	server.mute = true
	ctx, cancel := context.WithTimeout(background, 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := provider(at).AppendRecords(ctx, "example.com", challengeRecord("x")); err == nil {
		t.Error("it worked")
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestRFC2136_OtherRecordsAreNotWritten(t *testing.T) {
	server, at := startNameServer(t)
	if _, err := provider(at).AppendRecords(background, "example.com", []libdns.Record{libdns.CNAME{Name: "a", Target: "b"}}); err == nil || len(server.records) > 0 {
		t.Errorf("got %v, %q", err, server.records)
	}
}
