package auth_test

import (
	"strings"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"github.com/regward/regward/auth"
)

// shape is a filter without its values: what it asks, not whom for.
func shape(p *ber.Packet, b *strings.Builder, values *[]string) {
	b.WriteString(ldap.FilterMap[uint64(p.Tag)])
	b.WriteByte('[')
	if len(p.Children) == 0 {
		*values = append(*values, ber.DecodeString(p.Data.Bytes()))
	}
	for _, c := range p.Children {
		shape(c, b, values)
	}
	b.WriteByte(']')
}

// Whatever a user or an entry is named, a filter asks what it is meant to, for
// exactly that name.
func FuzzLDAPFilter(f *testing.F) {
	for _, name := range []string{"ann", "*", "a*b", "ann)(uid=*", `\2a`, `\`, "(", ")", "\x00", "ü", "\xff", "{dn}", "{user}", "uid=ann,dc=x", " a ", "&|!=~<>:", ":dn:="} {
		f.Add(name, "cn=x")
		f.Add("ann", name)
	}
	filters := []string{"(uid={user})", "(&(objectClass=person)(|(uid={user})(mail={user}@x.org)))", "(|(member={dn})(memberUid={user}))", "(!(member:1.2.840.113556.1.4.1941:={dn}))"}
	f.Fuzz(func(t *testing.T, user, dn string) {
		if user == "" || dn == "" {
			return
		}
		for _, filter := range filters {
			read := func(user, dn string) (string, []string) {
				p, err := ldap.CompileFilter(auth.Fill(filter, user, dn))
				if err != nil {
					t.Fatalf("%q %q: %v", user, dn, err)
				}
				var b strings.Builder
				var values []string
				shape(p, &b, &values)
				return b.String(), values
			}
			want, plain := read("u", "d")
			got, values := read(user, dn)
			if got != want || len(values) != len(plain) {
				t.Fatalf("%q %q: %s, want %s", user, dn, got, want)
			}
			for i := range plain {
				meant := plain[i]
				switch meant {
				case "u", "u@x.org":
					meant = user + meant[1:]
				case "d":
					meant = dn
				}
				if values[i] != meant {
					t.Fatalf("%q %q: value %q, want %q", user, dn, values[i], meant)
				}
			}
		}
	})
}
