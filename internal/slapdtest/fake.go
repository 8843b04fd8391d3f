package slapdtest

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// Question is what somebody asked a Fake.
type Question struct {
	Op     int    // ldap.ApplicationBindRequest, ldap.ApplicationSearchRequest, ...
	Base   string // of a search
	Filter string
	Name   string // of a bind
}

// Entry is one that a Fake tells of.
type Entry struct {
	DN         string
	Attributes map[string][]string
}

// Fake is a directory that answers what no slapd would: answer gives the entries
// and the result code for each question. It speaks TLS, with a certificate of ca.
func Fake(t testing.TB, answer func(Question) ([]Entry, int)) (url string, ca []byte) {
	t.Helper()
	return Raw(t, func(c net.Conn) { serve(c, answer) })
}

// Raw is whatever speaks TLS: each connection is talk's, and closed after it.
func Raw(t testing.TB, talk func(net.Conn)) (url string, ca []byte) {
	t.Helper()
	dir := t.TempDir()
	ca = writeCertificates(t, dir, []string{"127.0.0.1"}, false)
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				talk(c)
			}()
		}
	}()
	return "ldaps://" + l.Addr().String(), ca
}

func serve(c net.Conn, answer func(Question) ([]Entry, int)) {
	for {
		p, err := ber.ReadPacket(c)
		if err != nil || len(p.Children) < 2 {
			return
		}
		id, op := p.Children[0].Value.(int64), p.Children[1]
		q := Question{Op: int(op.Tag)}
		switch q.Op {
		case ldap.ApplicationBindRequest:
			q.Name, _ = op.Children[1].Value.(string)
		case ldap.ApplicationSearchRequest:
			q.Base, _ = op.Children[0].Value.(string)
			q.Filter, _ = ldap.DecompileFilter(op.Children[6])
		default:
			return
		}
		entries, code := answer(q)
		for _, e := range entries {
			if _, err := c.Write(message(id, entry(e)).Bytes()); err != nil {
				return
			}
		}
		if _, err := c.Write(message(id, result(q.Op, code)).Bytes()); err != nil {
			return
		}
	}
}

func message(id int64, op *ber.Packet) *ber.Packet {
	p := ber.NewSequence("")
	p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
	p.AppendChild(op)
	return p
}

// result ends the answer to an operation.
func result(op, code int) *ber.Packet {
	tag := ber.Tag(ldap.ApplicationBindResponse)
	if op == ldap.ApplicationSearchRequest {
		tag = ldap.ApplicationSearchResultDone
	}
	p := ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "")
	p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, code, ""))
	p.AppendChild(text(""))
	p.AppendChild(text(""))
	return p
}

func text(s string) *ber.Packet {
	return ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, s, "")
}

func entry(e Entry) *ber.Packet {
	p := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationSearchResultEntry, nil, "")
	p.AppendChild(text(e.DN))
	attributes := ber.NewSequence("")
	for name, values := range e.Attributes {
		one := ber.NewSequence("")
		one.AppendChild(text(name))
		set := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
		for _, v := range values {
			set.AppendChild(text(v))
		}
		one.AppendChild(set)
		attributes.AppendChild(one)
	}
	p.AppendChild(attributes)
	return p
}
