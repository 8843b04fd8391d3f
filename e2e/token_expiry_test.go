package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/random"
)

// shortTokens makes tokens as short as they may be: a minute, and a minute
// more in which they are still taken (T13).
const (
	shortTokens = "token: {ttl: 1m}\n"
	tokenLife   = 2 * time.Minute
)

// throttle is a slow line to target: what the client sends arrives at rate
// bytes a second and connection.
func throttle(t *testing.T, target string, rate int) (host string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed: the test is over
			}
			go relay(c, target, rate)
		}
	}()
	return fmt.Sprintf("localhost:%d", l.Addr().(*net.TCPAddr).Port)
}

func relay(client net.Conn, target string, rate int) {
	defer client.Close()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		defer client.Close()
		_, _ = io.Copy(client, server)
	}()
	piece := make([]byte, rate/20)
	for pace := time.NewTicker(time.Second / 20); ; <-pace.C {
		n, err := client.Read(piece)
		if n > 0 {
			if _, err := server.Write(piece[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// A push over a slow line that takes longer than its token lives. containerd
// 1.6 is not among the clients: it uses one token for a whole push whatever
// it is told (clients.md), and its manifest comes too late.
func TestAPushOutlivesItsToken(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	g := startRegward(t, u, teamRules+shortTokens)
	for _, name := range []string{"docker", "podman", "skopeo", "crane", "regctl"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const rate = 20_000
			host := throttle(t, g.host, rate)
			c := kindNamed(name).new(t, host)
			c.login(t, "ann", passwords["ann"]).works(t)
			img, err := random.Image(int64(rate*(tokenLife+10*time.Second)/time.Second), 1)
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			ref := "coolteam/slow-" + name + ":1"
			c.push(t, host+"/"+ref, img).works(t)
			if took := time.Since(begin); took < tokenLife {
				t.Errorf("the push took %v: too short to show anything", took)
			}
			if u.digestOf(t, ref) == "" {
				t.Error("the upstream does not have it")
			}
		})
	}
}

func withDigest(location, content string) string {
	sum := sha256.Sum256([]byte(content))
	separator := "?"
	if strings.Contains(location, "?") {
		separator = "&"
	}
	return location + separator + "digest=sha256:" + hex.EncodeToString(sum[:])
}

// S13, R07 and T13 by hand: what an expired token may still do, and what not.
func TestAnExpiredTokenFinishesItsUploadAndNothingElse(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "coolteam/app:1", small(t))
	g := startRegward(t, u, teamRules+shortTokens)
	const scope = "repository:coolteam/app:push,pull"
	token := g.token(t, "ann", scope)
	issued := time.Now()
	start := g.send(t, http.MethodPost, "/v2/coolteam/app/blobs/uploads/", token, nil).is(t, http.StatusAccepted)
	location := start.Header.Get("Location")
	if !strings.HasPrefix(location, "/v2/coolteam/app/blobs/uploads/") {
		t.Fatalf("Location: %s", location)
	}
	manifest := func() answer {
		return g.send(t, http.MethodGet, "/v2/coolteam/app/manifests/1", token, nil)
	}

	time.Sleep(time.Until(issued.Add(tokenLife - 10*time.Second)))
	manifest().is(t, http.StatusOK) // expires_in and most of a minute are over

	time.Sleep(time.Until(issued.Add(tokenLife + 2*time.Second)))
	if h := manifest().is(t, http.StatusUnauthorized).Header.Get("WWW-Authenticate"); !strings.Contains(h, `error="invalid_token"`) {
		t.Errorf("the challenge is %s", h)
	}
	other := g.token(t, "bob", scope)
	g.send(t, http.MethodPatch, location, other, strings.NewReader("x")).is(t, http.StatusNotFound)
	g.send(t, http.MethodPost, "/v2/coolteam/app/blobs/uploads/", token, nil).is(t, http.StatusUnauthorized)

	next := g.send(t, http.MethodPatch, location, token, strings.NewReader("late")).is(t, http.StatusAccepted)
	g.send(t, http.MethodPut, withDigest(next.Header.Get("Location"), "late"), token, nil).is(t, http.StatusCreated)
}
