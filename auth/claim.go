package auth

import "slices"

// What the providers of this package are called, and which credentials they know
// by their look.

// Named is what metrics call it.
func (x *Robots) Named() string { return viaRobot }

// Quick: one SHA-256.
func (x *Robots) Quick() bool { return true }

// Unguessable: they are as long as keys.
func (x *Robots) Unguessable() bool { return true }

// Claim knows robots' secrets, whoever they are shown by.
func (x *Robots) Claim(c Credential) Claim {
	if c.Kind == Basic && isRobotSecret(c.Secret()) {
		return Own
	}
	return Others
}

// Keeps is Claim: a secret is for robots alone.
func (x *Robots) Keeps(c Credential) bool { return x.Claim(c) == Own }

// Keeps reports whether one of its providers keeps c.
func (n *Chain) Keeps(c Credential) bool {
	return slices.ContainsFunc(n.links, func(a Authenticator) bool {
		k, ok := a.(Keeper)
		return ok && k.Keeps(c)
	})
}

// Named is what metrics call it.
func (n *OIDC) Named() string { return viaOIDC[:len(viaOIDC)-1] }

// Quick: who waits for the keys of one issuer takes no turn of those whose keys are
// in hand. A signature costs a tenth of a millisecond.
func (n *OIDC) Quick() bool { return true }

// Unguessable: they are signed.
func (n *OIDC) Unguessable() bool { return true }

// Claim knows the one user name.
func (n *OIDC) Claim(c Credential) Claim {
	if n.mine(c) {
		return Own
	}
	return Others
}

// Keeps is Claim: a token is for its issuer alone.
func (n *OIDC) Keeps(c Credential) bool { return n.Claim(c) == Own }

// Named is what metrics call it.
func (h *Htpasswd) Named() string { return viaHtpasswd }

// Claim knows the names of the file. Any other costs as much time as they do, so
// that nobody can tell them apart.
func (h *Htpasswd) Claim(c Credential) Claim {
	if c.Kind != Basic {
		return Others
	}
	if _, known := h.lines[h.name(c.User)]; known {
		return Own
	}
	return Unsure
}

// Named is what metrics call it.
func (l *LDAP) Named() string { return viaLDAP }

// Named is what metrics call it.
func (w *Webhook) Named() string { return viaWebhook }
