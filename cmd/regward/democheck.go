package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// demoStep is one promise of the demo, tried.
type demoStep struct {
	Step   string `json:"step"`
	OK     bool   `json:"ok"`
	Saw    string `json:"saw,omitempty"`
	Failed string `json:"failed,omitempty"`
}

// demoCheck walks the tour by itself, as clients would.
func (a *app) demoCheck(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	d, err := a.newDemonstration("127.0.0.1:0")
	if err != nil {
		return err
	}
	defer d.close()
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- d.server.run(running, make(chan os.Signal)) }()
	defer func() { stop(); <-ended }()

	w, err := newWalker(ctx, d)
	if err != nil {
		return err
	}
	defer w.client.CloseIdleConnections()
	var steps []demoStep
	failed := 0
	for _, t := range w.steps() {
		saw, err := t.try()
		step := demoStep{Step: t.promise, OK: err == nil, Saw: saw}
		mark := "ok    "
		if err != nil {
			step.Failed = err.Error()
			mark = "FAILED"
			failed++
		}
		steps = append(steps, step)
		if !a.json() {
			fmt.Fprintf(a.stdout, "%s  %s\n", mark, t.promise)
			for _, line := range strings.Split(strings.TrimRight(saw+"\n"+step.Failed, "\n"), "\n") {
				if line != "" {
					fmt.Fprintf(a.stdout, "          %s\n", line)
				}
			}
		}
	}
	if a.json() {
		if err := a.printJSON(steps); err != nil {
			return err
		}
	} else if failed == 0 {
		fmt.Fprintf(a.stdout, "all %d steps passed\n", len(steps))
	}
	if failed > 0 {
		return fmt.Errorf("%s of the demo failed", plural(failed, "step"))
	}
	return nil
}

// walker is a client of the demo.
type walker struct {
	ctx    context.Context
	d      *demonstration
	client *http.Transport
}

func newWalker(ctx context.Context, d *demonstration) (*walker, error) {
	pem, err := os.ReadFile(d.file("certs", "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("the demo's CA is no certificate")
	}
	return &walker{ctx, d, &http.Transport{
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout: 10 * time.Second,
	}}, nil
}

// promise is one step: what must hold, and a try that tells what was seen.
type promise struct {
	promise string
	try     func() (saw string, err error)
}

func (w *walker) steps() []promise {
	ann := &authn.Basic{Username: "ann", Password: "ann-demo"}
	bob := &authn.Basic{Username: "bob", Password: "bob-demo"}
	wrong := &authn.Basic{Username: "ann", Password: "guess"}
	return []promise{
		{"the ping asks for a token", w.ping},
		{"anybody pulls library/hello", func() (string, error) { return w.pull("library/hello", authn.Anonymous) }},
		{"nobody in particular is refused coolteam/app, in words", func() (string, error) {
			return w.refused("coolteam/app", authn.Anonymous, "not logged in")
		}},
		{"a wrong password is refused, in words", func() (string, error) { return w.login(wrong, http.StatusUnauthorized) }},
		{"ann logs in", func() (string, error) { return w.login(ann, http.StatusOK) }},
		{"ann pulls coolteam/app", func() (string, error) { return w.pull("coolteam/app", ann) }},
		{"ann pushes to coolteam/app", func() (string, error) { return w.push("coolteam/app:new", ann) }},
		{"bob is refused coolteam/app, in words", func() (string, error) { return w.refused("coolteam/app", bob, "bob is logged in") }},
		{"ann may not delete", func() (string, error) { return w.deletion("coolteam/app:new", ann) }},
		{fmt.Sprintf("after %d pulls a minute bob is told when to come back", demoPulls), func() (string, error) { return w.exhaust("library/hello", bob) }},
		{"explain tells why bob was refused", w.explain},
	}
}

// get asks plainly, with a login if there is one.
func (w *walker) get(target string, login *authn.Basic) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, "https://"+w.d.host+target, nil)
	if err != nil {
		return nil, nil, err
	}
	if login != nil {
		req.SetBasicAuth(login.Username, login.Password)
	}
	res, err := w.client.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return res, body, err
}

// words is the message of a refusal.
func words(body []byte) string {
	var refusal struct {
		Errors []struct{ Message string } `json:"errors"`
	}
	if json.Unmarshal(body, &refusal) != nil || len(refusal.Errors) == 0 {
		return strings.TrimSpace(string(body))
	}
	return refusal.Errors[0].Message
}

func (w *walker) ping() (string, error) {
	res, _, err := w.get("/v2/", nil)
	if err != nil {
		return "", err
	}
	challenge := res.Header.Get("WWW-Authenticate")
	if res.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(challenge, "Bearer realm=") {
		return challenge, fmt.Errorf("%s instead of 401 with a Bearer challenge", res.Status)
	}
	return challenge, nil
}

func (w *walker) login(login *authn.Basic, want int) (string, error) {
	res, body, err := w.get("/token?"+url.Values{"service": {"localhost"}, "account": {login.Username}}.Encode(), login)
	if err != nil {
		return "", err
	}
	if res.StatusCode != want {
		return words(body), fmt.Errorf("%s instead of %d", res.Status, want)
	}
	if want == http.StatusOK {
		return "", nil
	}
	return words(body), nil
}

func (w *walker) reference(ref string) (name.Reference, error) {
	return name.ParseReference(w.d.host + "/" + ref)
}

func (w *walker) options(login authn.Authenticator) []remote.Option {
	return []remote.Option{remote.WithContext(w.ctx), remote.WithTransport(w.client), remote.WithAuth(login)}
}

func (w *walker) image(repository string, login authn.Authenticator) (v1.Image, error) {
	ref, err := w.reference(repository)
	if err != nil {
		return nil, err
	}
	return remote.Image(ref, w.options(login)...)
}

func (w *walker) pull(repository string, login authn.Authenticator) (string, error) {
	img, err := w.image(repository, login)
	if err != nil {
		return "", err
	}
	layers, err := img.Layers()
	if err != nil {
		return "", err
	}
	for _, layer := range layers {
		if err := readWhole(layer); err != nil {
			return "", err
		}
	}
	digest, err := img.Digest()
	return digest.String(), err
}

// readWhole fails unless what comes has the layer's digest and size: the reader
// sees to it.
func readWhole(layer v1.Layer) error {
	body, err := layer.Compressed()
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(io.Discard, body)
	return err
}

func (w *walker) push(repository string, login authn.Authenticator) (string, error) {
	ref, err := w.reference(repository)
	if err != nil {
		return "", err
	}
	img, err := demoImage("pushed through regward\n")
	if err != nil {
		return "", err
	}
	return ref.Name(), remote.Write(ref, img, w.options(login)...)
}

// refused pulls what must not be given, and wants to read why.
func (w *walker) refused(repository string, login authn.Authenticator, why string) (string, error) {
	_, err := w.image(repository, login)
	if err == nil {
		return "", errors.New("it was given")
	}
	if !strings.Contains(err.Error(), why) {
		return "", fmt.Errorf("the refusal does not say %q: %w", why, err)
	}
	return err.Error(), nil
}

func (w *walker) deletion(repository string, login authn.Authenticator) (string, error) {
	ref, err := w.reference(repository)
	if err != nil {
		return "", err
	}
	if err := remote.Delete(ref, w.options(login)...); err == nil {
		return "", errors.New("it was deleted")
	} else if !strings.Contains(err.Error(), "may not delete") {
		return "", fmt.Errorf("the refusal does not say \"may not delete\": %w", err)
	} else {
		return err.Error(), nil
	}
}

// exhaust pulls until the limit says no.
func (w *walker) exhaust(repository string, login *authn.Basic) (string, error) {
	for range demoPulls + 2 {
		res, body, err := w.get("/v2/"+repository+"/manifests/latest", login)
		switch {
		case err != nil:
			return "", err
		case res.StatusCode == http.StatusTooManyRequests && res.Header.Get("Retry-After") != "":
			return fmt.Sprintf("429, Retry-After: %s: %s", res.Header.Get("Retry-After"), words(body)), nil
		case res.StatusCode != http.StatusOK:
			return words(body), fmt.Errorf("%s instead of 200 or 429", res.Status)
		}
	}
	return "", errors.New("the limit never refused")
}

// explain asks as an operator would, through the admin listener.
func (w *walker) explain() (string, error) {
	var out, errs bytes.Buffer
	args := []string{"--config", w.d.file("regward.yaml"), "explain", "--last", "--user", "bob", "--repository", "coolteam/app"}
	if code := run(w.ctx, args, func(string) string { return "" }, strings.NewReader(""), &out, &errs); code != exitDone {
		return "", fmt.Errorf("exit code %d: %s", code, errs.String())
	}
	if !strings.Contains(out.String(), "likely: bob is logged in and has no right") {
		return out.String(), errors.New("it does not say that bob has no right")
	}
	return out.String(), nil
}
