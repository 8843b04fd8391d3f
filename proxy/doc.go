// Package proxy is the handler: it parses what is asked, finds out who asks,
// lets the policy and the limits decide, and passes on what is allowed.
package proxy
