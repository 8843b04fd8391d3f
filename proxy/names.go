package proxy

import "net/http"

// deliverTags writes a list of tags under the name the client knows (R14).
func (x *exchange) deliverTags(resp *http.Response) error { return x.stream(resp) }

// deliverError writes an upstream's refusal without names of the upstream's (R23).
func (x *exchange) deliverError(resp *http.Response) error { return x.stream(resp) }
