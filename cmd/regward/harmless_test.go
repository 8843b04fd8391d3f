package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/regward/regward/proxy"
)

// Names that strangers made up, and logs that somebody else wrote, are shown to
// whoever keeps the registry: they move no cursor, turn no text round and make up
// no lines of their own.
func TestWhatStrangersTypedDoesNothingToATerminal(t *testing.T) {
	const evil = "e\x1b[2J\u009b31m\u202e\u2069\u2028\r\n\tvil"
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	usage := usageState{Client: "user:" + evil, Used: 1, Size: 2, Full: now.Add(time.Hour)}
	refusal := told{Refusal: proxy.Refusal{Time: now, User: evil, Repository: evil, UserAgent: strings.ReplaceAll(evil, " ", ""), Message: evil}, Times: 1, Likely: "a slip"}
	report := findings{
		Limits:  []limitReport{{Limit: "people: 1/h", Who: []clientReport{{Client: "user:" + evil, First: now}}}},
		Denials: []denialReport{{Who: "user " + evil, Action: "pull", Repository: evil, First: now}},
	}
	for what, print := range map[string]func(*bytes.Buffer){
		"limits show": func(b *bytes.Buffer) {
			(&limitsAnswer{Together: true, Limits: []limitStatus{{Name: "people", Used: []usageState{usage}}}}).print(b, now)
		},
		"status": func(b *bytes.Buffer) {
			(&status{NearEnd: []nearEndStatus{{"people", "pulls", usage}}}).print(b, now)
		},
		"explain --last": func(b *bytes.Buffer) { printTold(b, &refusal, refusalsAnswer{}) },
		"replay":         func(b *bytes.Buffer) { _ = report.print(b) },
	} {
		var b bytes.Buffer
		print(&b)
		if text := b.String(); strings.ContainsAny(text, "\x1b\r\u009b\u202e\u2069\u2028") || strings.Contains(text, "\nvil") || strings.Contains(text, "\n\tvil") || !strings.Contains(text, "vil") {
			t.Errorf("%s:\n%q", what, text)
		}
	}
}
