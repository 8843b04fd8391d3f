package filelock_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/regward/regward/internal/filelock"
)

func TestOneHoldsALock(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	open := func() *os.File {
		t.Helper()
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	try := func(f *os.File, want bool) {
		t.Helper()
		if held, err := filelock.Try(f); err != nil || held != want {
			t.Fatalf("held: %v, %v, want %v", held, err, want)
		}
	}
	one, two := open(), open()
	try(one, true)
	try(two, false)
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	try(two, true)
	if _, err := filelock.Try(one); err == nil {
		t.Error("a closed file can be locked")
	}
}
