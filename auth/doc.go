// Package auth answers two questions: who is this, and may they?
//
// It never sees an HTTP request. Credentials come in parsed, identities and
// decisions go out; what they mean on the wire is the proxy's business.
package auth
