package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// smallDisk is a file system of a few MB in memory.
type smallDisk struct{ dir, filler string }

func newSmallDisk(t *testing.T) *smallDisk {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m,mode=0700"); err != nil {
		t.Fatalf("mount: %v; the tests want root", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return &smallDisk{dir, filepath.Join(dir, "filler")}
}

// fill leaves no room at all.
func (d *smallDisk) fill(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile(d.filler, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

func (d *smallDisk) makeRoom(t *testing.T) {
	t.Helper()
	if err := os.Remove(d.filler); err != nil {
		t.Fatal(err)
	}
}

// dropped is how many lines of the access log were.
func (g *regward) dropped(t *testing.T) string {
	t.Helper()
	r, err := http.Get(g.health + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	const name = `regward_log_lines_dropped_total{log="access"} `
	_, rest, found := strings.Cut(string(text), name)
	if !found {
		t.Fatalf("no metric %s", name)
	}
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

// A full disk stops no request and no reload. What could not be kept is told,
// and all goes on by itself once there is room.
func TestAFullDiskStopsNothing(t *testing.T) {
	t.Parallel()
	disk := newSmallDisk(t)
	u := startUpstream(t, distribution)
	bigImage := small(t)
	u.has(t, "library/big:1", bigImage)
	g := newRegward(t, u.config)
	state := filepath.Join(disk.dir, "state")
	g.frame = strings.NewReplacer(filepath.Join(g.dir, "state"), state,
		g.access, filepath.Join(disk.dir, "access.log"), g.audit, filepath.Join(disk.dir, "audit.log")).Replace(g.frame)
	g.access, g.audit = filepath.Join(disk.dir, "access.log"), filepath.Join(disk.dir, "audit.log")
	g.configure(t, teamRules)
	g.serve(t)
	c := newCaller(g, "HTTP/1.1", false)
	layer := layerDigest(t, bigImage)
	works := func(when string) {
		t.Helper()
		if err := c.pull(t.Context(), "library/big", layer); err != nil {
			t.Errorf("%s: a pull: %v", when, err)
		}
		if err := c.push(t.Context(), "coolteam/app", noise(1000), 0); err != nil {
			t.Errorf("%s: a push: %v", when, err)
		}
		if err := g.ready(); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	works("with room")

	disk.fill(t)
	works("with a full disk")
	began := time.Now()
	for i := 0; g.dropped(t) == "0"; i++ { // more than may wait
		if time.Since(began) > 2*time.Minute {
			t.Fatal("no line is dropped")
		}
		askOften(t, g, 2000)
	}
	works("with lines dropped")
	eventually(t, "the log tells of dropped lines", 10*time.Second, func() error {
		if !strings.Contains(g.proc.output(), "log lines dropped") {
			return errors.New("it does not")
		}
		return nil
	})
	g.configure(t, closed)
	if err := g.reloadNow(); err != nil {
		t.Errorf("a reload with a full disk: %v", err)
	}
	if got := g.send(t, http.MethodGet, "/v2/library/big/manifests/1", g.token(t, "dave", "repository:library/big:pull"), nil).StatusCode; got != http.StatusUnauthorized {
		t.Errorf("after the reload library/ answers %d", got)
	}
	eventually(t, "the log tells that the configuration is not kept", 10*time.Second, func() error {
		if !strings.Contains(g.proc.output(), "last configuration that worked not kept") {
			return errors.New("it does not")
		}
		return nil
	})

	disk.makeRoom(t)
	g.configure(t, teamRules)
	if err := g.reloadNow(); err != nil {
		t.Error(err)
	}
	works("with room again")
	if kept := readFile(t, filepath.Join(state, "last-good.yaml")); !strings.Contains(kept, "subjects: everyone") {
		t.Errorf("the configuration is not kept:\n%s", kept)
	}
	var asked []string
	eventually(t, "the access log goes on", 20*time.Second, func() error {
		a := g.send(t, http.MethodGet, "/v2/", "", nil)
		asked = append(asked, a.Header.Get("X-Request-Id"))
		log := g.accessLog(t)
		for _, id := range asked { // the first ones may have found no room yet
			if strings.Contains(log, id) {
				return nil
			}
		}
		return fmt.Errorf("none of %v", asked)
	})

	// A start finds it full again.
	disk.fill(t)
	g.proc.signal(t, syscall.SIGTERM)
	g.endsWithin(t, 30*time.Second)
	g.serve(t)
	works("started with a full disk")
	disk.makeRoom(t)
}

// askOften asks /v2/ without a login, n times.
func askOften(t *testing.T, g *regward, n int) {
	t.Helper()
	var all sync.WaitGroup
	for range 4 {
		c := newCaller(g, "HTTP/1.1", false)
		all.Go(func() {
			for range n / 4 {
				if _, err := c.must(t.Context(), http.MethodGet, "/v2/?x="+strings.Repeat("y", 2000), "", nil, http.StatusUnauthorized); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
