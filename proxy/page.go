package proxy

import (
	"bytes"
	"html"
	"net/http"
)

// page is what a browser sees at /: how to log in, whom to ask, the CA.
func (x *exchange) page() error {
	if x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		return refuse(http.StatusMethodNotAllowed, "UNSUPPORTED", "this is a page to read").with("Allow", "GET, HEAD")
	}
	host := html.EscapeString(x.host())
	var b bytes.Buffer
	b.WriteString("<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n<title>" + host + "</title>\n" +
		"<style>body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem}pre{background:#f4f4f4;padding:.8rem;overflow:auto}</style>\n" +
		"<h1>" + host + "</h1>\n<p>A container registry. Public images need no login:</p>\n<pre>docker pull " + host + "/NAME</pre>\n" +
		"<p>For the others, and to push:</p>\n<pre>docker login " + host + "</pre>\n")
	if x.s.Contact != "" {
		b.WriteString("<p>Questions: " + html.EscapeString(x.s.Contact) + "</p>\n")
	}
	if len(x.s.CA) > 0 {
		b.WriteString("<p>Its certificates come from a CA of its own. For docker, save it as <code>/etc/docker/certs.d/" + host +
			"/ca.crt</code>; for podman, as <code>/etc/containers/certs.d/" + host + "/ca.crt</code>:</p>\n<pre>" + html.EscapeString(string(x.s.CA)) + "</pre>\n")
	}
	h := x.w.Header()
	h["Content-Type"] = []string{"text/html; charset=utf-8"}
	h["Content-Security-Policy"] = []string{"default-src 'none'; style-src 'unsafe-inline'"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h["Cache-Control"] = []string{"no-cache"}
	x.respond(http.StatusOK, b.Bytes())
	return nil
}
