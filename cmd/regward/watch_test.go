package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
)

// A configuration named without its folder, beside the files it names, is how
// the README starts: what is written in place has to be heard of there too.
func TestWriteInPlaceIsHeardOf(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	names := []string{"regward.yaml", filepath.Join(dir, "htpasswd")}
	for _, name := range names {
		if err := os.WriteFile(name, []byte("old\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			w := newWatcher(zap.NewNop())
			defer w.close()
			w.set(names, hashFiles(names))
			w.changed() // a look adds the folders again
			if err := os.WriteFile(name, []byte("new "+name+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			deadline := time.After(10 * time.Second)
			for {
				select {
				case e := <-w.notify.Events:
					if w.concerns(e) {
						return
					}
				case <-deadline:
					t.Fatalf("writing %s went unnoticed", name)
				}
			}
		})
	}
}
