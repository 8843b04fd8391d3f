package proxy

import (
	"os"
	"sync"
	"testing"
)

// tempDir is for what all tests share; TestMain removes it.
var tempDir = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "regward-proxy-test-")
	if err != nil {
		panic(err)
	}
	return dir
})

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(tempDir())
	os.Exit(code)
}
