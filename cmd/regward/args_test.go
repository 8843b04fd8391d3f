package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// Who leaves out an argument, or gives one too many, is told what to write and
// not how many were counted.
func TestArgumentsAreAskedForInWords(t *testing.T) {
	for line, want := range map[string]string{
		"replay":                 "replay: which log? as in: regward replay access.log --config candidate.yaml",
		"replay --suggest":       "replay: which log?",
		"diff":                   "diff: which two configurations, the old one first? as in: regward diff regward.yaml candidate.yaml",
		"diff a.yaml":            "diff: which two configurations",
		"diff a.yaml b c":        "diff: which two configurations",
		"validate a.yaml b.yaml": "validate: one file at a time, as in: regward validate candidate.yaml",
		"audit":                  "audit: which log? as in: regward audit audit.log",
		"limits":                 "limits: choose show, reset or override",
		"limits show people":     "limits show: --limit people?",
		"limits reset":           "limits reset: of which limit, and whose?",
		"limits override":        "limits override: name a limit, or --all",
		"revoke":                 "revoke: whom? --user NAME, or --everybody",
		"revoke ann":             "revoke: --user ann?",
		"explain":                "explain: say what to explain",
		"explain coolteam/app":   "explain: --repository coolteam/app?",
		"hash-password ann":      "--user NAME names the user",
		"config":                 "config: choose init, show or schema",
		"config shwo":            `config: there is no "shwo"; choose init, show or schema`,
		"config show tls":        `config show: takes no "tls"`,
		"config schema x":        `config schema: takes no "x"`,
		"config init a b":        "config init: one file, as in: regward config init regward.yaml",
		"completion":             "completion: choose bash",
		"serve regward.yaml":     "serve: --config regward.yaml?",
		"status all":             `status: takes no "all"`,
		"reload now":             `reload: takes no "now"`,
		"top all":                `top: takes no "all"`,
		"ca x":                   `ca: takes no "x"`,
		"demo x":                 `demo: takes no "x"`,
		"healthcheck x":          `healthcheck: takes no "x"`,
		"version x":              `version: takes no "x"`,
	} {
		var out, errs bytes.Buffer
		code := run(context.Background(), strings.Fields(line), func(string) string { return "" }, strings.NewReader(""), &out, &errs)
		if code != exitUsage || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s", line, code, exitUsage, want, errs.String())
		}
	}
}

// Limits of which no lowest rate is named say why, and what to do instead.
func TestWhyNoRateIsSuggested(t *testing.T) {
	const log = `{"time":"2026-11-20T09:00:01.000Z","msg":"request","request_id":"aaaaaaaaaa","method":"GET","path":"/v2/a/b/blobs/sha256:1111111111111111111111111111111111111111111111111111111111111111","route":"blob","user":"ann","addr":"192.0.2.7","status":200,"bytes_out":1000,"duration_ms":10}` + "\n"
	code, out, errs := replayed(t, `hostname: a.example
tls: {mode: internal}
upstream: http://registry:5000
auth: {htpasswd: users}
rules: [{subjects: everyone, repositories: "**", allow: pull}]
limits:
  - {name: flow, count: bytes, rate: 20MB/s, per: ip}
  - {name: parallel, count: transfers, rate: 8, per: ip}
`, log, "access.log", "--suggest")
	if code != exitDone {
		t.Fatal(errs)
	}
	for _, want := range []string{"flow              none: it refuses nobody", "take a share of the line", "parallel          none: how many run at once hangs on the limit itself", "try 16, 8, 4"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
}
