package tls

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/libdns/libdns"
	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"
)

const (
	dnsTTL      = 60 * time.Second
	dnsWithin   = 5 * time.Second // one question, or one update
	dnsTries    = 3               // of each
	dnsShown    = time.Minute     // until the record is there to be read
	dnsLook     = 2 * time.Second // between two looks at it
	dnsFudge    = 300             // seconds that clocks may differ by
	dnsEveryone = 1232            // bytes of an answer that no network cuts (DNS flag day 2020)
)

// Secret is a text that no log and no error shows.
type Secret string

// String is not the secret.
func (Secret) String() string { return "***" }

// Format is not the secret either, whatever the verb.
func (Secret) Format(w fmt.State, _ rune) { fmt.Fprint(w, "***") }

// DNS01 proves a name by a record in DNS, written there by dynamic updates (RFC
// 2136) that are signed with a key shared with the server (TSIG).
type DNS01 struct {
	Server    string // host:port
	Zone      string // holds all names
	KeyName   string
	KeySecret Secret // base64
	Algorithm string // hmac-sha256, -sha1, -sha224, -sha384, -sha512
}

// DNSError is a DNS server that does not do what it is asked for.
type DNSError struct {
	Server string
	Msg    string // what it did, and what to do
	Err    error  // nil if it answered
}

// Error implements error.
func (e *DNSError) Error() string { return fmt.Sprintf("DNS server %s %s", e.Server, e.Msg) }

// Unwrap is what was in the way of an answer.
func (e *DNSError) Unwrap() error { return e.Err }

// AppendRecords adds TXT records to zone, beside those of the same name that are
// there (libdns.RecordAppender).
func (d *DNS01) AppendRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	rrs, err := texts(zone, records)
	if err != nil {
		return nil, err
	}
	update := new(dns.Msg)
	update.SetUpdate(dns.Fqdn(zone))
	update.Insert(rrs)
	if err := d.send(ctx, update); err != nil {
		return nil, err
	}
	return records, nil
}

// DeleteRecords removes exactly these (libdns.RecordDeleter).
func (d *DNS01) DeleteRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	rrs, err := texts(zone, records)
	if err != nil {
		return nil, err
	}
	update := new(dns.Msg)
	update.SetUpdate(dns.Fqdn(zone))
	update.Remove(rrs)
	if err := d.send(ctx, update); err != nil {
		return nil, err
	}
	return records, nil
}

func texts(zone string, records []libdns.Record) ([]dns.RR, error) {
	var rrs []dns.RR
	for _, r := range records {
		rr := r.RR()
		if rr.Type != "TXT" {
			return nil, fmt.Errorf("a record of type %s was not asked for", rr.Type)
		}
		name := dns.Fqdn(libdns.AbsoluteName(rr.Name, dns.Fqdn(zone)))
		rrs = append(rrs, &dns.TXT{
			Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: uint32(rr.TTL / time.Second)},
			Txt: []string{rr.Data},
		})
	}
	return rrs, nil
}

// send signs update and sends it by TCP: it is either done or known not to be.
func (d *DNS01) send(ctx context.Context, update *dns.Msg) error {
	update.SetTsig(dns.CanonicalName(d.KeyName), d.Algorithm+".", dnsFudge, time.Now().Unix())
	answer, err := d.ask(ctx, update)
	if err != nil {
		return d.unanswered(err)
	}
	return d.refused(answer)
}

// ask sends m, again if nothing came back. It is not made twice by that: a record
// that is there is not added again, and one that is gone not removed.
func (d *DNS01) ask(ctx context.Context, m *dns.Msg) (answer *dns.Msg, err error) {
	client := &dns.Client{Net: "tcp", Timeout: dnsWithin, TsigSecret: map[string]string{dns.CanonicalName(d.KeyName): string(d.KeySecret)}}
	for try := range dnsTries {
		if try > 0 {
			if err := pause(ctx, time.Second); err != nil {
				return nil, err
			}
		}
		call, cancel := context.WithTimeout(ctx, dnsWithin)
		answer, _, err = client.ExchangeContext(call, m, d.Server)
		cancel()
		var unreached net.Error
		if err == nil || ctx.Err() != nil || answer != nil || !errors.As(err, &unreached) {
			break
		}
	}
	// An answer that says no is not signed by a server that does not know the key.
	if answer != nil && answer.Rcode != dns.RcodeSuccess {
		return answer, nil
	}
	return answer, err
}

func (d *DNS01) unanswered(err error) error {
	msg := fmt.Sprintf("does not answer (%v): check tls.acme_dns.server, and that it is reached by TCP", cause(err))
	if errors.Is(err, dns.ErrSig) || errors.Is(err, dns.ErrTime) || errors.Is(err, dns.ErrAuth) || errors.Is(err, dns.ErrNoSig) {
		msg = fmt.Sprintf("signs its answer with another key than %s (%v): check tls.acme_dns.key_secret", d.KeyName, err)
	}
	return &DNSError{d.Server, msg, err}
}

// refused puts the codes of RFC 2136 and RFC 8945 into words.
func (d *DNS01) refused(answer *dns.Msg) error {
	if answer.Rcode == dns.RcodeSuccess {
		return nil
	}
	msg := "answers " + dns.RcodeToString[answer.Rcode]
	code := answer.Rcode
	if tsig := answer.IsTsig(); tsig != nil && tsig.Error != 0 {
		code = int(tsig.Error)
		msg += "/" + dns.RcodeToString[code]
	}
	switch code {
	case dns.RcodeBadKey:
		msg += fmt.Sprintf(": it has no key %s, or another algorithm for it: check tls.acme_dns.key_name and algorithm", d.KeyName)
	case dns.RcodeBadSig: // BADVERS has the same number
		msg += fmt.Sprintf(": its key %s has another secret or algorithm: check tls.acme_dns.key_secret and algorithm", d.KeyName)
	case dns.RcodeBadTime:
		msg += ": its clock and the one here differ by more than 5 minutes"
	case dns.RcodeNotAuth:
		msg += fmt.Sprintf(": it is not in charge of zone %s, or does not know the key %s: check tls.acme_dns.zone and key_name", d.Zone, d.KeyName)
	case dns.RcodeNotZone:
		msg += fmt.Sprintf(": the name is not in zone %s: check tls.acme_dns.zone", d.Zone)
	case dns.RcodeRefused:
		msg += fmt.Sprintf(": key %s may not write TXT records in zone %s there: allow it (in BIND: update-policy)", d.KeyName, d.Zone)
	case dns.RcodeServerFailure:
		msg += fmt.Sprintf(": it could not write zone %s; its log says why", d.Zone)
	}
	return &DNSError{d.Server, msg, nil}
}

// dnsSolver solves challenges with a DNS01.
type dnsSolver struct{ *DNS01 }

func (s dnsSolver) record(c acme.Challenge) []libdns.Record {
	name := libdns.RelativeName(dns.Fqdn(c.DNS01TXTRecordName()), dns.Fqdn(s.Zone))
	return []libdns.Record{libdns.TXT{Name: name, Text: c.DNS01KeyAuthorization(), TTL: dnsTTL}}
}

// Present implements acmez.Solver.
func (s dnsSolver) Present(ctx context.Context, c acme.Challenge) error {
	_, err := s.AppendRecords(ctx, s.Zone, s.record(c))
	return err
}

// CleanUp implements acmez.Solver.
func (s dnsSolver) CleanUp(ctx context.Context, c acme.Challenge) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dnsTries*dnsWithin)
	defer cancel()
	_, err := s.DeleteRecords(ctx, s.Zone, s.record(c))
	return err
}

// Wait implements acmez.Waiter: until the server that took the record gives it,
// too. When its secondaries do is not known here; a CA asks more than once.
func (s dnsSolver) Wait(ctx context.Context, c acme.Challenge) error {
	name, want := dns.Fqdn(c.DNS01TXTRecordName()), c.DNS01KeyAuthorization()
	ctx, cancel := context.WithTimeout(ctx, dnsShown)
	defer cancel()
	for {
		question := new(dns.Msg)
		question.SetQuestion(name, dns.TypeTXT)
		question.SetEdns0(dnsEveryone, false)
		answer, err := s.ask(ctx, question)
		switch {
		case err == nil && slices.ContainsFunc(answer.Answer, func(rr dns.RR) bool {
			t, ok := rr.(*dns.TXT)
			return ok && strings.Join(t.Txt, "") == want
		}):
			return nil
		case err == nil && answer.Rcode == dns.RcodeRefused:
			return nil // it takes updates and answers nobody: others will
		}
		if pause(ctx, dnsLook) != nil {
			if err != nil {
				return s.unanswered(err)
			}
			return &DNSError{s.Server, fmt.Sprintf("took a TXT record for %s and does not give it after %v", strings.TrimSuffix(name, "."), dnsShown), nil}
		}
	}
}
