package proxy

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/regward/regward/auth"
)

// httpError is a refusal on its way to the client. Steps return it; one
// function, refuse, writes it.
type httpError struct {
	status int
	code   string // as in the distribution spec's error table
	msg    string // for the client: no addresses, no secrets, no full stop; contact and request id follow
	header http.Header
	cause  error  // for the log only
	reason string // for records and metrics: one of the words below
	limit  string // that refused, if one did, for records
	hidden bool   // it stands for what the upstream does not show to regward (S11)

	scope   string // of the challenge of a 401 (C10)
	authErr string // of the challenge of a 401 (C11); "" if the request carried no bearer token
}

// The reasons records and metrics give for a refusal; a closed set.
const (
	reasonNoCredential  = "no_credential"
	reasonMalformed     = "malformed_credential"
	reasonWrongPassword = "wrong_password"
	reasonBadCert       = "bad_certificate"
	reasonProvider      = "login_provider"
	reasonGroups        = "too_many_groups"
	reasonRobotExpired  = "expired_robot"
	reasonRobotRotated  = "rotated_secret"
	reasonRobotAway     = "robot_elsewhere"
	reasonBadToken      = "invalid_token"
	reasonExpired       = "expired_token"
	reasonRevoked       = "revoked_token"
	reasonRefresh       = "ended_login"
	reasonNotAllowed    = "not_allowed"
	reasonNotCovered    = "token_does_not_cover"
	reasonLimit         = "limit"
	reasonLockedOut     = "too_many_failed_logins"
	reasonRequest       = "bad_request"
	reasonNotFound      = "not_found"
	reasonReadOnly      = "read_only"
	reasonUpstream      = "upstream"
	reasonClientGone    = "client_gone"
	reasonBusy          = "overloaded"
)

func (e *httpError) Error() string {
	if e.cause != nil {
		return e.msg + ": " + e.cause.Error()
	}
	return e.msg
}

func (e *httpError) Unwrap() error { return e.cause }

// because sets what records give as the reason.
func (e *httpError) because(reason string) *httpError {
	e.reason = reason
	return e
}

// with adds a header field of the answer.
func (e *httpError) with(key, value string) *httpError {
	if e.header == nil {
		e.header = http.Header{}
	}
	e.header.Set(key, value)
	return e
}

// from keeps the cause for the log.
func (e *httpError) from(cause error) *httpError {
	e.cause = cause
	return e
}

// refuse makes a refusal without headers of its own.
func refuse(status int, code, msg string) *httpError {
	reason := reasonRequest
	switch {
	case status == http.StatusNotFound:
		reason = reasonNotFound
	case status >= 500:
		reason = reasonUpstream
	}
	return &httpError{status: status, code: code, msg: msg, reason: reason}
}

// unauthorized makes a 401; its challenge is built when it is written (C02-C11).
func unauthorized(code, msg, scope, authErr string) *httpError {
	return &httpError{status: http.StatusUnauthorized, code: code, msg: msg, scope: scope, authErr: authErr}
}

// scopeOf is the one resource scope that wants need (C10).
func scopeOf(wants []auth.Access) string {
	if len(wants) == 0 {
		return ""
	}
	return auth.FormatScope(wants)
}

// sentence is what the client reads: the message, whom to ask, the request id (S01).
func sentence(msg, contact, id string) string {
	var b strings.Builder
	b.Grow(len(msg) + len(contact) + len(id) + 16)
	b.WriteString(strings.TrimSuffix(msg, ".")) // an operator's own text may have one
	b.WriteByte('.')
	if contact != "" {
		b.WriteByte(' ')
		b.WriteString(contact)
	}
	b.WriteString(" (request ")
	b.WriteString(id)
	b.WriteByte(')')
	return b.String()
}

// errorBody is the JSON of S01.
func errorBody(code, message string) []byte {
	type entry struct {
		Code    string  `json:"code"`
		Message string  `json:"message"`
		Detail  *string `json:"detail"`
	}
	const most = 4 << 10 // oras reads no more than 8 KiB
	if len(message) > most {
		message = message[:most]
	}
	body, err := json.Marshal(struct {
		Errors []entry `json:"errors"`
	}{[]entry{{Code: code, Message: message}}})
	if err != nil { // strings always marshal
		return []byte(`{"errors":[{"code":"UNKNOWN","message":"","detail":null}]}`)
	}
	return append(body, '\n')
}
