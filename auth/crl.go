package auth

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// revocationList is what remains of a list that was read.
type revocationList struct {
	ca   string // who signed it
	from *x509.Certificate
	next time.Time // when there should be a newer one; zero: it does not say
}

// Revoking is c without the certificates on the lists in data: PEM or DER, one
// or several. Each list must be whole and signed by one of the CAs that c
// believes. One that should have been replaced already counts all the same, and
// Problems says so.
func (c *Certificates) Revoking(data []byte) (*Certificates, error) {
	if len(data) > MaxCRL {
		return nil, fmt.Errorf("is longer than %d bytes", MaxCRL)
	}
	blocks, err := splitLists(data)
	if err != nil {
		return nil, err
	}
	next := &Certificates{o: c.o, cas: c.cas}
	for i, der := range blocks {
		if err := next.take(der); err != nil {
			return nil, fmt.Errorf("list %d in it %w", i+1, err)
		}
	}
	slices.Sort(next.revoked)
	next.revoked = slices.Clip(slices.Compact(next.revoked))
	next.trust()
	return next, nil
}

// splitLists takes the lists apart.
func splitLists(data []byte) (blocks [][]byte, err error) {
	if !strings.Contains(string(data[:min(len(data), 4<<10)]), "-----BEGIN") {
		return splitDER(data)
	}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("holds a %s; revocation lists (X509 CRL) belong there", strings.ToLower(block.Type))
		}
		if blocks = append(blocks, block.Bytes); len(blocks) > MaxListsOfCRL {
			return nil, fmt.Errorf("holds more than %d lists", MaxListsOfCRL)
		}
	}
	if len(blocks) == 0 || strings.Contains(string(data), "-----BEGIN") {
		return nil, fmt.Errorf("ends in the middle of list %d: is it still being written?", len(blocks)+1)
	}
	return blocks, nil
}

func splitDER(data []byte) (blocks [][]byte, err error) {
	for len(data) > 0 {
		var one asn1.RawValue
		rest, err := asn1.Unmarshal(data, &one)
		switch {
		case err != nil && len(blocks) == 0:
			return nil, errors.New("is no revocation list, or is cut off")
		case err != nil:
			return nil, fmt.Errorf("ends in the middle of list %d: is it still being written?", len(blocks)+1)
		}
		if blocks = append(blocks, one.FullBytes); len(blocks) > MaxListsOfCRL {
			return nil, fmt.Errorf("holds more than %d lists", MaxListsOfCRL)
		}
		data = rest
	}
	if len(blocks) == 0 {
		return nil, errors.New("is empty")
	}
	return blocks, nil
}

// take adds what a list revokes. Its errors end the sentence that begins "list 1
// in it".
func (c *Certificates) take(der []byte) error {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return fmt.Errorf("cannot be read: %s", strings.TrimPrefix(err.Error(), "x509: "))
	}
	if err := wholeList(list); err != nil {
		return err
	}
	from, err := c.signer(list)
	if err != nil {
		return err
	}
	c.lists = append(c.lists, revocationList{nameOf(from), from, list.NextUpdate})
	for i := range list.RevokedCertificateEntries {
		c.revoked = append(c.revoked, uint64(linkFor(list.RawIssuer, list.RevokedCertificateEntries[i].SerialNumber)))
	}
	return nil
}

// wholeList refuses lists that say less than which certificates of their signer
// are revoked.
func wholeList(list *x509.RevocationList) error {
	distributionPoint, delta := asn1.ObjectIdentifier{2, 5, 29, 28}, asn1.ObjectIdentifier{2, 5, 29, 27}
	for _, e := range list.Extensions {
		switch {
		case e.Id.Equal(delta):
			return errors.New("is a delta: it has only what changed; give the whole list")
		case e.Id.Equal(distributionPoint):
			var point struct {
				Name     asn1.RawValue  `asn1:"optional,tag:0"`
				Users    bool           `asn1:"optional,tag:1"`
				CAs      bool           `asn1:"optional,tag:2"`
				Reasons  asn1.BitString `asn1:"optional,tag:3"`
				Indirect bool           `asn1:"optional,tag:4"`
				Others   bool           `asn1:"optional,tag:5"`
			}
			if rest, err := asn1.Unmarshal(e.Value, &point); err != nil || len(rest) > 0 {
				return errors.New("has a distribution point that cannot be read")
			}
			switch {
			case point.Others:
				return errors.New("is for attribute certificates alone, and says of no client's whether it is revoked")
			case point.Reasons.BitLength > 0:
				return errors.New("has what was revoked for some reasons alone; give the whole list")
			case point.Indirect:
				return errors.New("speaks for other CAs than its own (an indirect list), which is not understood; give each CA's own list")
			}
		case e.Critical:
			return fmt.Errorf("has a critical extension (%v) that is not understood", e.Id)
		}
	}
	return nil
}

// signer is the CA that signed the list.
func (c *Certificates) signer(list *x509.RevocationList) (*x509.Certificate, error) {
	var wrong error
	for _, ca := range c.cas {
		if string(ca.RawSubject) != string(list.RawIssuer) {
			continue
		}
		err := list.CheckSignatureFrom(ca)
		if err == nil {
			return ca, nil
		}
		wrong = err
		if ca.KeyUsage != 0 && ca.KeyUsage&x509.KeyUsageCRLSign == 0 {
			wrong = errors.New("that CA's certificate lets it sign no lists (key usage lacks cRLSign)")
		}
	}
	issuer := shorten(list.Issuer.String())
	if wrong != nil {
		return nil, fmt.Errorf("is not signed by %s as it says: %s", issuer, strings.TrimPrefix(wrong.Error(), "x509: "))
	}
	return nil, fmt.Errorf("is by %s, whose certificate is not in tls.client_ca_file; add it there", issuer)
}

// Revoked counts the certificates that lists have.
func (c *Certificates) Revoked() int { return len(c.revoked) }

// Problems are sentences about lists that are out of date, CAs without one
// beside CAs with one, and CAs that are no longer valid.
func (c *Certificates) Problems(now time.Time) (all []string) {
	for _, l := range c.lists {
		if !l.next.IsZero() && now.After(l.next) {
			all = append(all, fmt.Sprintf("the revocation list of %s is out of date: a newer one was due on %s. What it has counts, but who was revoked since may still come in", l.ca, instant(l.next)))
		}
	}
	for _, ca := range c.cas {
		listed := slices.ContainsFunc(c.lists, func(l revocationList) bool {
			return l.from.Equal(ca) || string(l.from.RawSubject) == string(ca.RawSubject)
		})
		if ca.IsCA && len(c.lists) > 0 && !listed {
			all = append(all, "no list says which certificates of "+nameOf(ca)+" are revoked")
		}
		if now.After(ca.NotAfter) {
			all = append(all, "the CA "+nameOf(ca)+" expired on "+instant(ca.NotAfter)+": nobody with a certificate of its can log in")
		}
	}
	return all
}
