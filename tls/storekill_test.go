package tls_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	regtls "github.com/regward/regward/tls"
)

// killedIn names the folder that this test binary, run again, writes to until it
// is killed.
const killedIn = "REGWARD_TEST_WRITES_TO"

// whole is a value that tells whether it is whole.
func whole(n int) []byte {
	text := []byte(strings.Repeat(fmt.Sprintln("line", n), 2000))
	sum := sha256.Sum256(text)
	return append(sum[:], text...)
}

func TestG10_AKilledWriterLeavesWholeValuesAndNoLock(t *testing.T) {
	if dir := os.Getenv(killedIn); dir != "" {
		writeUntilKilled(dir)
	}
	dir := t.TempDir()
	f, err := regtls.NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	keys := []string{"certificates/ca/a.pem", "acme/ca/users/default/default.json"}
	for _, key := range keys {
		if err := f.Store(background, key, whole(0)); err != nil {
			t.Fatal(err)
		}
	}
	for range 40 {
		child := exec.Command(os.Args[0], "-test.run=^TestG10_AKilledWriter")
		child.Env = append(os.Environ(), killedIn+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil { // it writes
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(30_000)) * time.Microsecond) // the moment is what is tried
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait()
		for _, key := range keys {
			value, err := f.Load(background, key)
			if err != nil || len(value) < 32 {
				t.Fatalf("%s: %d bytes, %v", key, len(value), err)
			}
			if sum := sha256.Sum256(value[32:]); !bytes.Equal(sum[:], value[:32]) {
				t.Fatalf("%s is half written", key)
			}
		}
		if err := f.Lock(background, "held"); err != nil {
			t.Fatal(err)
		}
		if err := f.Unlock(background, "held"); err != nil {
			t.Fatal(err)
		}
	}
	if listed, err := f.List(background, "", true); err == nil {
		t.Errorf("listing nothing: got %q", listed)
	}
	f.Tidy()
	left, err := filepath.Glob(filepath.Join(dir, "*", "*", ".new-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %q, %v", left, err)
	}
}

func writeUntilKilled(dir string) {
	f, err := regtls.NewFolder(dir)
	if err != nil {
		panic(err)
	}
	if err := f.Lock(background, "held"); err != nil {
		panic(err)
	}
	for n := 1; ; n++ {
		for _, key := range []string{"certificates/ca/a.pem", "acme/ca/users/default/default.json"} {
			if err := f.Store(background, key, whole(n)); err != nil {
				panic(err)
			}
		}
		if n == 1 {
			os.Stdout.WriteString("x")
		}
	}
}
