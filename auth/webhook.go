package auth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// WebhookOptions are the keys of auth.webhook.
type WebhookOptions struct {
	URL           string // https, or http on loopback
	Secret        string
	CA            []byte // PEM; nil: the system's
	Timeout       time.Duration
	CaseSensitive bool
	Key           ProofKey // proofs are made with it: the same on every instance
	Now           func() time.Time
}

// Format never prints the secrets.
func (o WebhookOptions) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "webhook "+o.URL) }

// Webhook asks a program of somebody's own about logins: a POST to the URL with
//
//	{"user": "ann", "password": "…", "addr": "192.0.2.7", "hostname": "registry.example.com"}
//
// where addr is the client's address and hostname the one it asked for; either
// is empty where it is not known. It is signed:
//
//	X-Regward-Signature: t=1800000000,v1=HEX
//
// with the seconds since 1970, and v1 the HMAC-SHA256 under the secret of that
// number, a dot and the body. The program should compare v1 in constant time and
// turn down a t that is more than a minute from its clock: a question that was
// overheard could be asked again for so long. It answers
//
//	200  {"user": "ann", "groups": ["dev"], "ttl": 60}
//	401, 403  the login is wrong
//	404, 204  it knows no such user: the next provider is asked
//
// All members of the object are optional: without user it is the one asked about,
// spelled as it was; another one is whom the login is for. ttl is for how many
// seconds the answer may be believed where cache.ttl or token.ttl are longer (of
// a token: 60 s at least); nor is it believed longer than that while the program
// cannot be asked. Any other answer, one that is late, a redirect and what cannot
// be read could not say: of these a 5xx, a 429 and none at all are an outage
// (ErrUnavailable). To a wrong signature the program should answer 400: a 401
// could not be told from a wrong password.
type Webhook struct {
	url           *url.URL
	secret        []byte
	timeout       time.Duration
	caseSensitive bool
	now           func() time.Time
	transport     *http.Transport
	proof         [16]byte
}

// WebhookError is what kept the program from saying anything.
type WebhookError struct {
	Host   string
	Status int // 0 without an answer
	Err    error
}

func (e *WebhookError) Error() string { return fmt.Sprintf("webhook %s %v", e.Host, e.Err) }

// Unwrap has ErrUnavailable among what it returns where the program is down or
// has too much to do, rather than wrong.
func (e *WebhookError) Unwrap() []error {
	if e.Status == 0 || e.Status == http.StatusTooManyRequests || e.Status >= 500 {
		return []error{e.Err, ErrUnavailable}
	}
	return []error{e.Err}
}

const (
	signatureHeader = "X-Regward-Signature"
	webhookConns    = MaxRemoteLogins
)

// NewWebhook asks nobody yet. The error goes on from "auth.webhook: ".
func NewWebhook(o WebhookOptions) (*Webhook, error) {
	u, err := url.Parse(o.URL)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("url is no URL: write https://logins.example.com/regward")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, errors.New("url is not https: passwords would travel in the clear")
	case o.Secret == "":
		return nil, errors.New("secret is missing: how would it know that we ask?")
	case o.Timeout <= 0:
		return nil, errors.New("timeout is not positive")
	}
	config, err := tlsWithCA(o.CA)
	if err != nil {
		return nil, err
	}
	w := &Webhook{
		url: u, secret: []byte(o.Secret), timeout: o.Timeout, caseSensitive: o.CaseSensitive, now: o.Now,
		transport: &http.Transport{
			TLSClientConfig:        config,
			DisableCompression:     true, // what is bounded is what is read
			MaxResponseHeaderBytes: MaxAnswer,
			MaxConnsPerHost:        webhookConns,
			MaxIdleConnsPerHost:    webhookConns,
			IdleConnTimeout:        15 * time.Second, // all that is left of one after a reload
		},
	}
	mac := hmac.New(sha256.New, o.Key[:])
	for _, field := range []string{"webhook", o.URL, o.Secret, string(o.CA), strconv.FormatBool(o.CaseSensitive)} {
		_ = binary.Write(mac, binary.BigEndian, uint32(len(field)))
		mac.Write([]byte(field))
	}
	w.proof = [16]byte(mac.Sum(nil))
	return w, nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// Format never prints the secret.
func (w *Webhook) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "webhook "+w.url.Host) }

// question is the body of what is asked.
type question struct {
	User     string `json:"user"`
	Password string `json:"password"`
	Addr     string `json:"addr"`
	Hostname string `json:"hostname"`
}

// Authenticate asks. What the program says is believed until Expires.
func (w *Webhook) Authenticate(ctx context.Context, c Credential) (Identity, error) {
	if c.Kind != Basic {
		return Identity{}, ErrNotMine
	}
	said, err := w.ask(ctx, c)
	if err != nil {
		return Identity{}, err
	}
	return w.judge(c, said)
}

// judge makes of an answer about c whom the login is for.
func (w *Webhook) judge(c Credential, said webhookAnswer) (Identity, error) {
	switch said.status {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return Identity{}, &Rejection{viaWebhook, fmt.Sprintf("it answers %d", said.status), WrongPassword}
	case http.StatusNotFound, http.StatusNoContent:
		return Identity{}, fmt.Errorf("webhook: user %q: %w", c.User, ErrNotMine)
	default:
		return Identity{}, &WebhookError{w.url.Host, said.status, fmt.Errorf("answers %d", said.status)}
	}
	answer, err := readAnswer(said.body, c.User, w.caseSensitive)
	if err != nil {
		return Identity{}, w.nonsense(err)
	}
	id := Identity{Name: answer.user, Groups: answer.groups, Via: viaWebhook, Proof: w.proof}
	if answer.limited {
		id.Expires = w.now().Add(answer.ttl)
	}
	return id, nil
}

// webhookAnswer is what comes back.
type webhookAnswer struct {
	status int
	body   []byte
	date   time.Time // its clock; zero if it does not tell
}

// ask puts the question once: no redirect is followed, for it would take the
// password along. Errors hold no more of the URL than its host.
func (w *Webhook) ask(ctx context.Context, c Credential) (said webhookAnswer, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	q := question{User: c.User, Password: c.Secret(), Hostname: c.Host}
	if c.Addr.IsValid() {
		q.Addr = c.Addr.Unmap().String()
	}
	text, err := json.Marshal(q)
	if err != nil {
		return said, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url.String(), bytes.NewReader(text))
	if err != nil {
		return said, errors.New("webhook: url is no URL")
	}
	req.Header = http.Header{
		"Accept":        {"application/json"},
		"Content-Type":  {"application/json"},
		"User-Agent":    {"regward"},
		signatureHeader: {sign(w.secret, w.now(), text)},
		// Not sent: it tells our transport that asking again does no harm, where a
		// connection that was kept turns out to be closed.
		"Idempotency-Key": nil,
	}
	res, err := w.transport.RoundTrip(req)
	if err != nil {
		return said, w.lost(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, MaxAnswer+1))
	if err != nil {
		return said, w.lost(err)
	}
	if len(body) > MaxAnswer {
		return said, w.nonsense(fmt.Errorf("is longer than %d bytes", MaxAnswer))
	}
	date, _ := http.ParseTime(res.Header.Get("Date"))
	return webhookAnswer{res.StatusCode, body, date}, nil
}

// nonsense is a good answer in a form that is none. err goes on from "its answer".
func (w *Webhook) nonsense(err error) error {
	return &WebhookError{w.url.Host, http.StatusOK, fmt.Errorf("cannot be understood: its answer %w", err)}
}

func (w *Webhook) lost(err error) error {
	var late net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &late) && late.Timeout() {
		err = fmt.Errorf("does not answer within %v: %w", w.timeout, err)
	} else {
		err = fmt.Errorf("cannot be asked: %w", err)
	}
	return &WebhookError{w.url.Host, 0, err}
}

// sign is the value of X-Regward-Signature.
func sign(secret []byte, now time.Time, body []byte) string {
	t := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(t + "."))
	mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// Proof holds where the login came from: the program is told, so its answer may
// depend on it.
func (w *Webhook) Proof(c Credential) []byte {
	if c.Kind != Basic {
		return nil
	}
	addr := c.Addr.As16()
	proof := append(w.proof[:len(w.proof):len(w.proof)], addr[:]...)
	return append(append(proof, c.Addr.Zone()...), "/"+c.Host...)
}

// Current reports whether id was proven by the program that is asked now. It does
// not allocate.
func (w *Webhook) Current(id *Identity) bool {
	return id.Via == viaWebhook && subtle.ConstantTimeCompare(w.proof[:], id.Proof[:]) == 1
}

// Remote says that checks wait for the program.
func (w *Webhook) Remote() bool { return true }
