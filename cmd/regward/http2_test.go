package main

import (
	"crypto/tls"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestH05_UploadWindowsAreRaised reads what the server lets a client of HTTP/2
// send ahead, on a stream and on the connection.
func TestH05_UploadWindowsAreRaised(t *testing.T) {
	r := begin(t, standard, nil, nil)
	c, err := tls.Dial("tcp", r.server.listeners.first.String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(c, c)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	stream, connection := uint32(65535), uint32(65535)
	for stream == 65535 || connection == 65535 {
		f, err := framer.ReadFrame()
		if err != nil {
			t.Fatalf("windows of %d (stream) and %d (connection) so far: %v", stream, connection, err)
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
				stream = v
			}
		case *http2.WindowUpdateFrame:
			connection += f.Increment
		}
	}
	const netHTTP = 1 << 20
	if stream <= netHTTP || connection <= netHTTP {
		t.Errorf("windows of %d (stream) and %d (connection), want more than net/http's %d", stream, connection, netHTTP)
	}
}
