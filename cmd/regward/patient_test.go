package main

import (
	"crypto/rand"
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// A peer that takes nothing is given up; so is one whose deadline net/http
// took away between two answers.
func TestAPeerThatTakesNothingIsGivenUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := patient{l, 200 * time.Millisecond}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 64<<10)
	_, _ = rand.Read(block)
	for n := 0; ; n += len(block) {
		if _, err := c.Write(block); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("after %d bytes: %v", n, err)
			}
			return
		}
	}
}
