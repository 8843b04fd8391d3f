package auth

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Identity is who a credential speaks for. The zero Identity is anonymous.
type Identity struct {
	Name    string    // lower-cased unless auth.case_sensitive; "" is anonymous
	Groups  []string  // those its provider gave; fixed groups are looked up now
	Via     string    // which provider said so: "htpasswd", "certificate", ...
	Expires time.Time // of the token, or of the client certificate; zero for none
	ID      string    // jti of the token, "" without one
	Issued  time.Time // of the token, to the second; zero without one
	Epoch   Epoch     // the user's latest revocation when this was proven

	// Capped says that Scope is a ceiling: a bearer token may only narrow.
	Capped bool
	Scope  []Access

	// Narrowed marks Groups as those of a GroupSet, others left out; "" has all.
	Narrowed string

	// Proof is a keyed hash of what the identity was proven by (the htpasswd
	// line), carried inside tokens: a line that changed or is gone ends them.
	Proof [16]byte

	// Chain names what a client certificate was proven by: the CA that is
	// believed, the certificate and those between, 8 bytes each. It is carried
	// inside tokens: a revocation list that has one of them, or the CA gone, ends
	// them.
	Chain string

	// Sealed is the caller's own credential at one upstream (passthrough),
	// carried inside tokens too.
	Sealed Sealed
}

// Anonymous reports whether nobody in particular is speaking.
func (id Identity) Anonymous() bool { return id.Name == "" }

// Covers reports whether the ceiling lets every want through.
func (id *Identity) Covers(wants []Access) bool {
	for i := range wants {
		if !id.covers(&wants[i]) {
			return false
		}
	}
	return true
}

// covers does not look at tags: a token never names one.
func (id *Identity) covers(want *Access) bool {
	if !id.Capped {
		return true
	}
	for i := range id.Scope {
		have := &id.Scope[i]
		if have.Action == want.Action && (want.Action == List || have.Repository == want.Repository) {
			return true
		}
	}
	return false
}

// robot reports whether the identity is a robot's: those may what they were
// given and what rules for everyone and for token:NAME say, nothing else.
func (id *Identity) robot() bool { return id.Via == viaRobot }

const (
	viaRobot       = "robot"
	viaHtpasswd    = "htpasswd"
	viaCertificate = "certificate"
	viaOIDC        = "oidc:" // and the name of the issuer
	viaWebhook     = "webhook"
	viaLDAP        = "ldap"
)

// RobotPrefix is what the names begin with that robots log in by.
const RobotPrefix = "robot-"

// Caller is an identity at an address. It is made anew for each request and
// never cached: `from` rules look at Addr.
type Caller struct {
	Identity
	Addr netip.Addr
}

// String is how decisions name a caller: "anonymous", "ann", "ann (coolteam, dev)".
func (c Caller) String() string {
	if c.Anonymous() {
		return "anonymous"
	}
	name := c.Name
	if hasControl(name) {
		name = fmt.Sprintf("%q", name)
	}
	if len(c.Groups) == 0 {
		return name
	}
	groups, more := c.Groups, ""
	if extra := len(groups) - MaxGroupsShown; extra > 0 {
		groups, more = groups[:MaxGroupsShown], fmt.Sprintf(" and %d more", extra)
	}
	return name + " (" + strings.Join(groups, ", ") + more + ")"
}
