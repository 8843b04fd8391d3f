package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// One call of a template package, by us or by a library, keeps every method of
// the program and costs nine megabytes: nobody would notice but for this.
func TestTheProgramStaysSmall(t *testing.T) {
	const most = 23 << 20
	program := filepath.Join(t.TempDir(), "regward")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	info, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > most {
		t.Errorf("the stripped program has %.1f MB, want %d at most", float64(info.Size())/(1<<20), most>>20)
	}
}
