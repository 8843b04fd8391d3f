package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// deliverTags writes a list of tags under the name the client knows (R14). All
// else in it stays as the upstream wrote it, byte by byte.
func (x *exchange) deliverTags(resp *http.Response) error {
	h := x.w.Header()
	body, err := readWhole(resp, maxTagsBody)
	if err == nil {
		body, err = setName(body, x.req.Repository)
	}
	if err != nil {
		h.Del("Link")
		dropEntity(h)
		return broken(err)
	}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	h.Del("Etag") // of other bytes
	h.Del("Accept-Ranges")
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return x.stream(resp)
}

// plainly takes from a request what would make an upstream answer with other
// bytes than the whole JSON, where names in it are to be changed.
func plainly(h http.Header) {
	for _, name := range []string{"Accept-Encoding", "Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		delete(h, name)
	}
}

var errEncoded = errors.New("the answer is encoded, though nobody asked for that")

// readWhole is an answer's body of at most so many bytes.
func readWhole(resp *http.Response, most int64) ([]byte, error) {
	if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return nil, errEncoded
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err == nil && int64(len(body)) > most {
		err = errors.New("the answer has more than " + strconv.FormatInt(most, 10) + " bytes")
	}
	return body, err
}

// dropEntity forgets what an upstream said of a body that is not passed on.
func dropEntity(h http.Header) {
	for _, name := range []string{"Content-Encoding", "Content-Range", "Content-Length", "Accept-Ranges", "Etag", "Last-Modified", "Cache-Control"} {
		delete(h, name)
	}
}

// setName gives the member "name" of a JSON object another value. An object
// without one stays as it is; what is no object is an error.
func setName(body []byte, name string) ([]byte, error) {
	value, err := json.Marshal(name)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("the answer is no JSON object")
	}
	out := make([]byte, 0, len(body)+len(value))
	copied := 0
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var old json.RawMessage
		if err := dec.Decode(&old); err != nil {
			return nil, err
		}
		if key == "name" {
			end := int(dec.InputOffset())
			out = append(out, body[copied:end-len(old)]...)
			out = append(out, value...)
			copied = end
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows the answer's JSON")
	}
	return append(out, body[copied:]...), nil
}

// upstreamErrors is the error body of S01, as upstreams write it.
type upstreamErrors struct {
	Errors []upstreamError `json:"errors"`
}

type upstreamError struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Detail  *string `json:"detail"` // never passed: it has names in forms of its own
}

// deliverError writes an upstream's refusal under the names the client knows
// (R23). What cannot be read is said in our own words.
func (x *exchange) deliverError(resp *http.Response) error {
	h := x.w.Header()
	if x.r.Method == http.MethodHead {
		dropEntity(h)
		return x.stream(resp)
	}
	body, err := x.clientErrors(resp)
	dropEntity(h)
	if err != nil {
		status := resp.StatusCode
		return refuse(status, x.codeFor(status), "the registry behind this one answered "+strconv.Itoa(status)).because(reasonNotFound).from(err)
	}
	x.respond(resp.StatusCode, body)
	return nil
}

// clientErrors is an upstream's error body with client names, without detail.
func (x *exchange) clientErrors(resp *http.Response) ([]byte, error) {
	body, err := readWhole(resp, maxErrorBody)
	if err != nil {
		return nil, err
	}
	var from struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(body, &from); err != nil {
		return nil, err
	}
	if len(from.Errors) == 0 {
		return nil, errors.New("the refusal has no errors in it")
	}
	names := []string{x.name, x.req.Repository}
	if x.from != "" {
		names = append(names, x.from, x.req.From)
	}
	var to upstreamErrors
	for _, e := range from.Errors {
		if e.Code == "" {
			return nil, errors.New("the refusal has no code")
		}
		message, ok := rename(e.Message, maxErrorBody, names...)
		if !ok {
			return nil, errors.New("the refusal is too long")
		}
		to.Errors = append(to.Errors, upstreamError{Code: e.Code, Message: message})
	}
	if body, err = json.Marshal(to); err == nil && len(body) >= maxErrorBody {
		err = errors.New("the refusal is too long")
	}
	return append(body, '\n'), err
}

// rename replaces names in a text, given as old, new, old, new; where several
// old ones fit, the longest. A name is found only where it stands for itself,
// not within a longer one. It is not ok if the result has more than most bytes.
func rename(text string, most int, names ...string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(text); {
		best := -1
		for j := 0; j < len(names); j += 2 {
			if standsAt(text, i, names[j]) && (best < 0 || len(names[j]) > len(names[best])) {
				best = j
			}
		}
		if best < 0 {
			b.WriteByte(text[i])
			i++
		} else {
			b.WriteString(names[best+1])
			i += len(names[best])
		}
		if b.Len() > most {
			return "", false
		}
	}
	return b.String(), true
}

// standsAt reports whether text has name at i, with nothing around it that
// would make it part of another name.
func standsAt(text string, i int, name string) bool {
	if name == "" || !strings.HasPrefix(text[i:], name) || i > 0 && nameByte(text[i-1]) {
		return false
	}
	rest := text[i+len(name):]
	for rest != "" && (rest[0] == '.' || rest[0] == '-' || rest[0] == '_' || rest[0] == '/') {
		rest = rest[1:] // at the end of a sentence it is none of the name's
		if rest != "" && nameByte(rest[0]) {
			return false
		}
	}
	return rest == "" || !alnum(rest[0])
}

func nameByte(c byte) bool { return alnum(c) || c == '.' || c == '-' || c == '_' || c == '/' }
