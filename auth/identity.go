package auth

import (
	"net/netip"
	"time"
)

// Identity is who a credential speaks for. The zero Identity is anonymous.
type Identity struct {
	Name    string    // lower-cased unless auth.case_sensitive; "" is anonymous
	Groups  []string  // those its provider gave; fixed groups are looked up now
	Via     string    // which provider said so: "htpasswd", later "ldap", ...
	Expires time.Time // of the token; zero for none
	ID      string    // jti of the token, "" without one

	// Capped says that Scope is a ceiling: a bearer token may only narrow.
	Capped bool
	Scope  []Access

	// Proof is a keyed hash of what the identity was proven by (the htpasswd
	// line), carried inside tokens: a line that changed or is gone ends them.
	Proof [16]byte
}

// Anonymous reports whether nobody in particular is speaking.
func (id Identity) Anonymous() bool { return id.Name == "" }

// Covers reports whether the ceiling lets every want through.
func (id *Identity) Covers(wants []Access) bool { panic("unwritten") }

// Caller is an identity at an address. It is made anew for each request and
// never cached: `from` rules look at Addr.
type Caller struct {
	Identity
	Addr netip.Addr
}

// String is how decisions name a caller: "anonymous", "ann", "ann (coolteam, dev)".
func (c Caller) String() string { panic("unwritten") }
