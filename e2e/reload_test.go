package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// reloadTime is how long a change of a file may take to be seen.
const reloadTime = 20 * time.Second

// rejects is nil when the token endpoint turns the login down.
func (g *regward) rejects(user, password string) error {
	r, err := http.NewRequest(http.MethodGet, "https://"+g.host+"/token?service=localhost", nil)
	if err != nil {
		return err
	}
	r.SetBasicAuth(user, password)
	response, err := g.client.Do(r)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		return fmt.Errorf("the token endpoint answers %s", response.Status)
	}
	return nil
}

// closed is teamRules without the public namespace.
var closed = strings.Replace(teamRules, "subjects: everyone, ", "subjects: user:ann, ", 1)

// slowPull is a pull of a large blob under way, with most of it still to come.
type slowPull struct {
	response *http.Response
	want     string // digest
}

// startSlowPull asks for the first layer of library/big and reads the first
// piece. The rest is far more than buffers on the way can hold.
func startSlowPull(t *testing.T, g *regward, digest string) *slowPull {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, "https://"+g.host+"/v2/library/big/blobs/"+digest, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+g.token(t, "", "repository:library/big:pull"))
	response, err := (&http.Client{Transport: newTransport()}).Do(r) // a connection of its own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		t.Fatalf("slow pull: %s", response.Status)
	}
	return &slowPull{response: response, want: digest}
}

// rest reads to the end.
func (p *slowPull) rest() error {
	hash := sha256.New()
	if _, err := io.Copy(hash, p.response.Body); err != nil {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(hash.Sum(nil)); got != p.want {
		return fmt.Errorf("got %s, want %s", got, p.want)
	}
	return nil
}

// bigImage puts library/big:1 into the upstream and returns its layer.
func bigImage(t *testing.T, u *upstream) string {
	t.Helper()
	big := image(t, 48<<20)
	u.has(t, "library/big:1", big)
	return layerDigest(t, big)
}

// pullsLibrary is the status of an anonymous look at library/big:1.
func (g *regward) pullsLibrary(t *testing.T) int {
	t.Helper()
	token := g.token(t, "", "repository:library/big:pull")
	return g.send(t, http.MethodHead, "/v2/library/big/manifests/1", token, nil).StatusCode
}

func (g *regward) eventuallyPullsLibrary(t *testing.T, status int) {
	t.Helper()
	eventually(t, fmt.Sprintf("library/ answers %d", status), reloadTime, func() error {
		if got := g.pullsLibrary(t); got != status {
			return fmt.Errorf("it answers %d", got)
		}
		return nil
	})
}

func TestATransferGoesOnWhileTheRulesAreReloaded(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	layer := bigImage(t, u)
	for _, way := range []struct {
		name   string
		reload func(t *testing.T, g *regward)
	}{
		{"by SIGHUP", func(t *testing.T, g *regward) { g.reload(t) }},
		{"by a change of the file alone", func(*testing.T, *regward) {}},
		{"by the admin listener", func(t *testing.T, g *regward) {
			r, err := http.Post(g.admin+"/api/v1/reload", "", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			if r.StatusCode >= 300 {
				b, _ := io.ReadAll(r.Body)
				t.Fatalf("reload: %s: %s", r.Status, b)
			}
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			g := startRegward(t, u, teamRules)
			slow := startSlowPull(t, g, layer)
			if got := g.pullsLibrary(t); got != http.StatusOK {
				t.Fatalf("before the reload library/ answers %d", got)
			}
			g.configure(t, closed)
			way.reload(t, g)
			g.eventuallyPullsLibrary(t, http.StatusUnauthorized)
			if err := slow.rest(); err != nil {
				t.Errorf("the transfer that was under way: %v", err)
			}
		})
	}
}

func TestABrokenConfigurationChangesNothingAndIsSeen(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	bigImage(t, u)
	g := startRegward(t, u, teamRules)
	g.configure(t, strings.Replace(teamRules, "allow: pull}", "alow: pull}", 1))
	g.reload(t)
	eventually(t, "the metric tells", reloadTime, func() error {
		value, err := g.metric("regward_config_last_reload_successful")
		if err == nil && value != "0" {
			err = fmt.Errorf("it is %s", value)
		}
		return err
	})
	if got := g.pullsLibrary(t); got != http.StatusOK {
		t.Errorf("library/ answers %d", got)
	}
	eventually(t, "the log names the mistake and the cure", 5*time.Second, func() error {
		for _, word := range []string{"alow", "allow", "regward.yaml:"} {
			if !strings.Contains(g.proc.output(), word) {
				return fmt.Errorf("no %q in:\n%s", word, g.proc.output())
			}
		}
		return nil
	})
	g.configure(t, closed)
	g.reload(t)
	g.eventuallyPullsLibrary(t, http.StatusUnauthorized)
}

func TestAPersonRemovedFromThePasswordFileIsOutTokenAndAll(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "coolteam/app:1", small(t))
	g := startRegward(t, u, teamRules)
	token := g.token(t, "ann", "repository:coolteam/app:pull")
	g.send(t, http.MethodGet, "/v2/coolteam/app/manifests/1", token, nil).is(t, http.StatusOK)
	writeHtpasswd(t, g.passwd, map[string]string{"bob": passwords["bob"]})
	eventually(t, "ann's token is refused", reloadTime, func() error {
		a := g.send(t, http.MethodGet, "/v2/coolteam/app/manifests/1", token, nil)
		if a.StatusCode != http.StatusUnauthorized || !strings.Contains(a.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			return fmt.Errorf("%s, %s", a.Status, a.Header.Get("WWW-Authenticate"))
		}
		return nil
	})
}

func TestSIGTERMLetsATransferFinish(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	layer := bigImage(t, u)
	g := startRegward(t, u, teamRules+"shutdown_delay: 15s\nshutdown_timeout: 60s\n")
	slow := startSlowPull(t, g, layer)
	g.proc.signal(t, syscall.SIGTERM)
	eventually(t, "regward says that it is going", 5*time.Second, func() error {
		if g.ready() == nil {
			return errors.New("it is still ready")
		}
		return nil
	})
	if got := g.pullsLibrary(t); got != http.StatusOK {
		t.Errorf("within shutdown_delay library/ answers %d", got)
	}
	eventually(t, "regward takes no more requests", 40*time.Second, func() error {
		r, err := (&http.Client{Transport: newTransport()}).Get("https://" + g.host + "/v2/")
		if err == nil {
			r.Body.Close()
			return errors.New("it does")
		}
		return nil
	})
	if g.proc.ended() {
		t.Fatal("it ended while a transfer was under way")
	}
	if err := slow.rest(); err != nil {
		t.Errorf("the transfer that was under way: %v", err)
	}
	eventually(t, "regward has ended", 20*time.Second, func() error {
		if !g.proc.ended() {
			return errors.New("it is still there")
		}
		return nil
	})
	if g.proc.err != nil {
		t.Errorf("it ended with %v", g.proc.err)
	}
}

func TestAnUpstreamKilledMidBlobIsAFailureForTheClient(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	layer := bigImage(t, u)
	g := startRegward(t, u, teamRules)

	slow := startSlowPull(t, g, layer)
	u.proc.kill()
	if err := slow.rest(); err == nil {
		t.Error("the broken transfer looks like success")
	}

	for _, k := range []clientKind{kindNamed("crane"), kindNamed("skopeo")} {
		k.new(t, g.host).pull(t, g.host+"/library/big:1").fails(t)
	}
	token := g.token(t, "", "repository:library/big:pull")
	g.send(t, http.MethodGet, "/v2/library/big/manifests/1", token, nil).is(t, http.StatusBadGateway)
	if err := g.ready(); err != nil {
		t.Errorf("regward itself is well, but %v", err)
	}
}
