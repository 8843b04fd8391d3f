package auth_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/regward/regward/auth"
)

// Whoever has the key can make what tokens are proven by: it is in no print of
// any options, nor of what is made of them.
func TestProofKeysAreNotPrinted(t *testing.T) {
	var key auth.ProofKey
	for i := range key {
		key[i] = 0xa7
	}
	directory := auth.LDAPOptions{
		Servers: []string{"ldaps://127.0.0.1:1"}, UserBase: "dc=x", UserFilter: "(uid={user})", UserName: "uid",
		Bind: auth.NewBasic("cn=regward", "bind-s3cret"), Timeout: time.Second, Pool: 1, Key: key,
	}
	issuers := auth.OIDCOptions{Key: key, Now: time.Now}
	tokens, err := auth.NewOIDC(issuers)
	if err != nil {
		t.Fatal(err)
	}
	robots := auth.RobotOptions{Key: key, Now: time.Now}
	for what, one := range map[string]any{
		"htpasswd": auth.HtpasswdOptions{Key: key}, "directory": directory, "issuers": issuers, "robots": robots,
		"LDAP": mustLDAP(t, directory), "OIDC": tokens, "Robots": auth.NewRobots(nil, robots),
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			text := strings.ToLower(fmt.Sprintf(verb, one))
			for _, secret := range []string{"167 167", "0xa7", "a7a7", "xa7", "bind-s3cret"} {
				if strings.Contains(text, secret) {
					t.Errorf("%s prints of %s: %s", verb, what, text)
				}
			}
		}
	}
}
