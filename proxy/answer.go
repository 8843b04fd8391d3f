package proxy

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// options answers locally, never the upstream (P21).
func (x *exchange) options(allow string) error {
	x.w.Header()["Allow"] = []string{allow}
	x.respond(http.StatusNoContent, nil)
	return nil
}

// respond writes a whole answer of our own.
func (x *exchange) respond(status int, body []byte) {
	x.leave() // nothing is moved any more, whatever the client does next
	x.status = status
	if body != nil {
		x.w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	x.begin(status)
	if body != nil && x.r.Method != http.MethodHead {
		n, _ := x.w.Write(body)
		x.out += int64(n)
	}
}

// begin writes the head of the answer.
//
// A client of HTTP/1 whose body was not read to its end loses its connection:
// what still comes must not be taken for a request, and the answer not wait
// for it.
func (x *exchange) begin(status int) {
	if x.r.ProtoMajor == 1 {
		if x.unread() {
			x.w.Header()["Connection"] = []string{"close"}
		}
	} else if x.s != nil && (x.patient || x.body != nil || x.writeTimeout() == 0) {
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(x.s.idle()))
	}
	x.w.WriteHeader(status)
}

// writeTimeout is how long the server gives an answer from its request on. In
// HTTP/2 that is what ends a stream whose client opens no window; a deadline of
// our own for each would cost more than the rest of a small request. In HTTP/1
// the listener sees to it.
func (x *exchange) writeTimeout() time.Duration {
	server, _ := x.r.Context().Value(http.ServerContextKey).(*http.Server)
	if server == nil {
		return 0
	}
	return server.WriteTimeout
}

// wait takes the deadline of the answer away where the upstream may take
// longer than that.
func (x *exchange) wait(out *outgoing) {
	if x.r.ProtoMajor == 1 {
		return
	}
	if most := x.writeTimeout(); most > 0 && (out.Final || x.body != nil || x.up.settings.HeaderTimeout+x.s.idle() > most) {
		x.patient = true
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Time{})
	}
}

// unread reports whether some of the client's body was not read, as far as is known.
func (x *exchange) unread() bool {
	return x.r.ContentLength != 0 && !x.bodyRead && (x.body == nil || !x.body.all())
}

// refuse writes a refusal (S01).
func (x *exchange) refuse(err error) {
	var e *httpError
	if !errors.As(err, &e) {
		e = refuse(http.StatusInternalServerError, "UNKNOWN", "something went wrong here").from(err)
	}
	x.refusal, x.limitName = e, e.limit
	if errors.Is(err, context.Canceled) && x.r.Context().Err() != nil {
		x.clientGone = true
	}
	contact := ""
	if x.s != nil {
		contact = x.s.Contact
	}
	msg := sentence(e.msg, contact, x.id)
	h := x.w.Header()
	for k, v := range e.header {
		h[k] = v
	}
	h["Content-Type"] = jsonType
	if e.status == http.StatusUnauthorized {
		h["Www-Authenticate"] = []string{x.challenge(e, msg)}
	}
	if x.r.Body != nil && x.r.Body != http.NoBody && x.r.ContentLength != 0 {
		x.refuseEarly(e.status, errorBody(e.code, msg))
		return
	}
	x.respond(e.status, errorBody(e.code, msg))
}

func (x *exchange) challenge(e *httpError, msg string) string {
	if e.authErr == "" {
		msg = "" // C11
	}
	return challenge("https://"+x.host()+tokenPath, x.site.name, e.scope, e.authErr, msg)
}

// refuseEarly answers a client that is still sending: at once, then a bounded
// amount of what it sends is taken, or it would see only a reset (S12).
func (x *exchange) refuseEarly(status int, body []byte) {
	rc := http.NewResponseController(x.w)
	_ = rc.EnableFullDuplex() // HTTP/1: do not read the body before answering
	x.respond(status, body)
	if x.r.ProtoMajor > 1 { // the stream ends with the answer and what still comes is dropped; clients wait for that end
		return
	}
	_ = rc.Flush()
	_ = rc.SetReadDeadline(time.Now().Add(drainTime))
	drain(x.r.Body)
}
