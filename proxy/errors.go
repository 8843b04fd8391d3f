package proxy

import "net/http"

// httpError is a refusal on its way to the client. One function writes it.
type httpError struct {
	status int
	code   string // as in the distribution spec's error table
	msg    string // for the client: no addresses, no secrets; the request id is added when written
	header http.Header
	cause  error  // for the log only
	reason string // for records: a short fixed word such as "no_credential"
}

func (e *httpError) Error() string {
	if e.cause != nil {
		return e.msg + ": " + e.cause.Error()
	}
	return e.msg
}

func (e *httpError) Unwrap() error { return e.cause }

// refuse makes a refusal without headers of its own.
func refuse(status int, code, msg string) *httpError {
	return &httpError{status: status, code: code, msg: msg}
}
