package main

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Rotated logs are gzipped, and one that was cut off is told as far as it goes,
// with an error.
func TestAuditReadsGzip(t *testing.T) {
	line := `{"time":"2026-10-01T08:00:00.000Z","msg":"pull","user":"ann","repository":"a/b","digest":"sha256:aa"}` + "\n"
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte(strings.Repeat(line, 3))); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	whole, broken := filepath.Join(t.TempDir(), "audit.log.1.gz"), filepath.Join(t.TempDir(), "audit.log.2.gz")
	write(t, whole, packed.String())
	write(t, broken, packed.String()[:packed.Len()-6])
	for _, tt := range []struct {
		files []string
		code  int
		pulls int
		says  string
	}{
		{[]string{whole}, exitDone, 3, ""},
		{[]string{whole, whole}, exitDone, 6, ""},
		{[]string{broken}, exitFailed, 3, "audit.log.2.gz: unexpected EOF"},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"audit"}, tt.files...), os.Getenv, strings.NewReader(""), &out, &errs)
		if code != tt.code || strings.Count(out.String(), "a/b@sha256:aa") != tt.pulls || !strings.Contains(errs.String(), tt.says) {
			t.Errorf("%v: %d\n%s%s", tt.files, code, out.String(), errs.String())
		}
	}
}

func TestParseWhen(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		text string
		end  bool
		want string
	}{
		{"2026-10-01", false, "2026-10-01T00:00:00Z"},
		{"2026-10-31", true, "2026-11-01T00:00:00Z"}, // the day itself is in it
		{"2026-10-01T09:00:00+02:00", false, "2026-10-01T07:00:00Z"},
		{"24h", false, "2026-11-21T12:00:00Z"},
		{"30d", false, "2026-10-23T12:00:00Z"},
	} {
		got, err := parseWhen(tt.text, now, tt.end)
		if err != nil || got.UTC().Format(time.RFC3339) != tt.want {
			t.Errorf("%q: %v (%v), want %s", tt.text, got, err, tt.want)
		}
	}
}
