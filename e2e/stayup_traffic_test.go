package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"
)

// caller is a client by hand that repeats nothing: net/http sends a request
// again when its connection turns out to be dead, and so would hide what these
// tests look for.
type caller struct {
	g     *regward
	name  string
	http  *http.Client
	fresh func() *http.Client // a new one for each request, else nil
}

// callers are the four ways to come: by HTTP/1.1 and HTTP/2, over connections
// that stay and over new ones.
func callers(g *regward) []*caller {
	var all []*caller
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		for _, fresh := range []bool{false, true} {
			all = append(all, newCaller(g, version, fresh))
		}
	}
	return all
}

func newCaller(g *regward, version string, fresh bool) *caller {
	client := func() *http.Client {
		transport := newTransport()
		transport.ForceAttemptHTTP2 = version == "HTTP/2"
		return &http.Client{Transport: transport, CheckRedirect: noRedirects}
	}
	if fresh {
		return &caller{g: g, name: version + ", new connections", fresh: client}
	}
	return &caller{g: g, name: version, http: client()}
}

// got is a whole answer, of which the body's digest is enough.
type got struct {
	status int
	header http.Header
	size   int64
	digest string
	text   string // the first bytes
}

// do sends one request and reads the answer to its end. A body must give its
// length, or has none.
func (c *caller) do(ctx context.Context, method, target, authorization string, body io.Reader) (got, error) {
	var connections atomic.Int32
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connections.Add(1) }})
	if strings.HasPrefix(target, "/") {
		target = "https://" + c.g.host + target
	}
	r, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return got{}, err
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	client := c.http
	if c.fresh != nil {
		client = c.fresh()
		defer client.CloseIdleConnections()
	}
	response, err := client.Do(r)
	if err != nil {
		return got{}, err
	}
	defer response.Body.Close()
	first := &prefix{}
	hash := sha256.New()
	size, err := io.Copy(io.MultiWriter(hash, first), response.Body)
	a := got{response.StatusCode, response.Header, size, "sha256:" + hex.EncodeToString(hash.Sum(nil)), string(*first)}
	if err == nil && connections.Load() > 1 {
		err = fmt.Errorf("it took %d connections", connections.Load())
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %s after %d bytes: %w", method, target, response.Status, size, err)
	}
	return a, err
}

// must is do with one status that is right.
func (c *caller) must(ctx context.Context, method, target, authorization string, body io.Reader, status int) (got, error) {
	a, err := c.do(ctx, method, target, authorization, body)
	if err == nil && a.status != status {
		err = fmt.Errorf("%s %s: got %d, want %d: %s", method, target, a.status, status, a.text)
	}
	return a, err
}

// prefix keeps what comes first.
type prefix []byte

func (p *prefix) Write(b []byte) (int, error) {
	*p = append(*p, b[:min(len(b), 4096-len(*p))]...)
	return len(b), nil
}

// token asks for one, anonymously without a user.
func (c *caller) token(ctx context.Context, user, scope string) (string, error) {
	q := url.Values{"service": {"localhost"}, "scope": {scope}}
	basic := ""
	if user != "" {
		basic = basicAuth(user, passwords[user])
	}
	a, err := c.must(ctx, http.MethodGet, "/token?"+q.Encode(), basic, nil, http.StatusOK)
	if err != nil {
		return "", err
	}
	var t struct{ Token string }
	if err := json.Unmarshal([]byte(a.text), &t); err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	return "Bearer " + t.Token, nil
}

func basicAuth(user, password string) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

// pull takes the manifest of repository:1 and the layer.
func (c *caller) pull(ctx context.Context, repository, layer string) error {
	token, err := c.token(ctx, "", "repository:"+repository+":pull")
	if err != nil {
		return err
	}
	if _, err = c.must(ctx, http.MethodGet, "/v2/"+repository+"/manifests/1", token, nil, http.StatusOK); err != nil {
		return err
	}
	a, err := c.must(ctx, http.MethodGet, "/v2/"+repository+"/blobs/"+layer, token, nil, http.StatusOK)
	if err == nil && a.digest != layer {
		err = fmt.Errorf("the layer is %s, want %s", a.digest, layer)
	}
	return err
}

// push sends content in one PATCH, as slowly as pause says, and finishes it.
func (c *caller) push(ctx context.Context, repository string, content []byte, pause time.Duration) error {
	token, err := c.token(ctx, "ann", "repository:"+repository+":pull,push")
	if err != nil {
		return err
	}
	a, err := c.must(ctx, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", token, nil, http.StatusAccepted)
	if err != nil {
		return err
	}
	body := io.Reader(bytes.NewReader(content))
	if pause > 0 {
		body = &slowly{content, pause}
	}
	if a, err = c.must(ctx, http.MethodPatch, a.header.Get("Location"), token, body, http.StatusAccepted); err != nil {
		return err
	}
	end := withDigest(a.header.Get("Location"), string(content))
	_, err = c.must(ctx, http.MethodPut, end, token, nil, http.StatusCreated)
	return err
}

// slowly is a body in pieces, with a pause before each.
type slowly struct {
	rest  []byte
	pause time.Duration
}

func (s *slowly) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	time.Sleep(s.pause)
	n := copy(p, s.rest[:min(len(s.rest), 64<<10)])
	s.rest = s.rest[n:]
	return n, nil
}

// traffic is clients at work until they are told to stop.
type traffic struct {
	ctx    context.Context
	cancel context.CancelFunc
	all    sync.WaitGroup

	mu     sync.Mutex
	done   map[string]int // by client
	failed []string
}

func newTraffic(t testing.TB) *traffic {
	ctx, cancel := context.WithCancel(context.Background())
	tr := &traffic{ctx: ctx, cancel: cancel, done: map[string]int{}}
	t.Cleanup(tr.stop)
	return tr
}

// client does one thing again and again.
func (tr *traffic) client(name string, work func(context.Context) error) {
	tr.all.Go(func() {
		for tr.ctx.Err() == nil {
			err := work(tr.ctx)
			if tr.ctx.Err() != nil {
				return // whatever it says of its end
			}
			tr.mu.Lock()
			tr.done[name]++
			if err != nil {
				tr.failed = append(tr.failed, name+": "+err.Error())
			}
			tr.mu.Unlock()
		}
	})
}

func (tr *traffic) stop() {
	tr.cancel()
	tr.all.Wait()
}

// least is how often the slowest of the clients has done its work.
func (tr *traffic) least(clients int) int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if len(tr.done) < clients {
		return 0
	}
	least := 1 << 30
	for _, n := range tr.done {
		least = min(least, n)
	}
	return least
}

// report says what was done, and fails the test for what was not.
func (tr *traffic) report(t testing.TB) {
	t.Helper()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	total := 0
	for _, n := range tr.done {
		total += n
	}
	t.Logf("%d pulls, pushes and the like, %d failed: %v", total, len(tr.failed), tr.done)
	for _, f := range tr.failed[:min(len(tr.failed), 10)] {
		t.Error(f)
	}
}

// noise is content that nobody has seen before.
func noise(size int) []byte {
	b := make([]byte, size)
	seed := [32]byte{}
	for i := range seed {
		seed[i] = byte(rand.IntN(256))
	}
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

// hasBlob puts a blob into the upstream, behind regward's back.
func (u *upstream) hasBlob(t testing.TB, repository string, content []byte) (digest string) {
	t.Helper()
	direct := &caller{http: &http.Client{Transport: newTransport()}}
	a, err := direct.must(t.Context(), http.MethodPost, u.url+"/v2/"+repository+"/blobs/uploads/", "", nil, http.StatusAccepted)
	if err != nil {
		t.Fatal(err)
	}
	end := withDigest(a.header.Get("Location"), string(content))
	if a, err = direct.must(t.Context(), http.MethodPut, end, "", bytes.NewReader(content), http.StatusCreated); err != nil {
		t.Fatal(err)
	}
	return a.header.Get("Docker-Content-Digest")
}

// medium puts library/medium:1 with layers of some MB into the upstream.
func medium(t testing.TB, u *upstream) (layer string) {
	t.Helper()
	var img v1.Image = image(t, 4<<20)
	u.has(t, "library/medium:1", img)
	return layerDigest(t, img)
}
