package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func doctorRun(t *testing.T, stdin string, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(context.Background(), append([]string{"doctor"}, args...), func(string) string { return "" }, strings.NewReader(stdin), &o, &e)
	return code, o.String(), e.String()
}

func TestDoctorIsUsedWrongly(t *testing.T) {
	noCA := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(noCA, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"":                                       "doctor: which registry?",
		"a b":                                    "doctor: which registry?",
		"ftp://x":                                "https or http",
		"https://ann:secret@x":                   "no login in the URL",
		"x --user ann":                           "--user and --password-stdin go together",
		"x --password-stdin":                     "--user and --password-stdin go together",
		"x --user ann --password-stdin":          "no password on stdin",
		"x --user a:b --password-stdin":          "no colon",
		"x --repository x.example:5000/a":        "is no name of a repository",
		"x --origin pages.example":               "is no origin",
		"x --ca-file " + noCA + "/none":          "--ca-file",
		"x --ca-file " + noCA:                    "--ca-file",
		"x --origin https://pages.example/a/b/c": "is no origin",
	} {
		code, out, errs := doctorRun(t, "", strings.Fields(line)...)
		if code != exitUsage || !strings.Contains(errs, want) || out != "" || strings.Contains(errs, "secret") {
			t.Errorf("doctor %s: exit code %d, want %d and %q:\n%s%s", line, code, exitUsage, want, out, errs)
		}
	}
}

// openRegistry is one without a login, and its CA's file.
func openRegistry(t *testing.T) (host, ca string) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		_, _ = io.WriteString(w, "{}")
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	ca = filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(server.URL, "https://"), ca
}

func TestDoctorPrintsProblemsFirstAndASum(t *testing.T) {
	host, ca := openRegistry(t)
	root := t.TempDir()
	code, out, errs := doctorRun(t, "", host, "--ca-file", ca, "--root", root)
	if code != exitDone || !strings.HasPrefix(out, "warning  ") || errs != "" || !strings.Contains(out, "https://"+host+": 0 problems, 1 warning, ") {
		t.Errorf("exit code %d, want %d:\n%s%s", code, exitDone, out, errs)
	}
	// Without the CA it is a problem, and the first one.
	code, out, _ = doctorRun(t, "", host, "--root", root)
	if code != exitFailed || !strings.HasPrefix(out, "problem  ") || !strings.Contains(out, "regward trust "+host+" --for docker") {
		t.Errorf("exit code %d, want %d:\n%s", code, exitFailed, out)
	}
}

// What clients on this host trust belongs to it.
func TestDoctorLooksAtThisHostsTrustFolders(t *testing.T) {
	host, ca := openRegistry(t)
	root := t.TempDir()
	folder := filepath.Join(root, "etc/containers/certs.d", host)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	find := func() (code int, level string) {
		code, out, errs := doctorRun(t, "", host, "--ca-file", ca, "--root", root, "--output", "json")
		var report struct {
			Findings []struct{ Check, Level string }
			NotTried []struct{ Check, Why string } `json:"not_tried"`
		}
		if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.NotTried) == 0 {
			t.Fatalf("%v: %s%s", err, out, errs)
		}
		for _, f := range report.Findings {
			if f.Check == "trust-podman" {
				return code, f.Level
			}
		}
		return code, ""
	}
	if code, level := find(); code != exitFailed || level != "problem" {
		t.Errorf("without the CA: exit code %d, trust-podman %q; want %d and a problem", code, level, exitFailed)
	}
	text, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "ca.crt"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, level := find(); code != exitDone || level != "ok" {
		t.Errorf("with the CA: exit code %d, trust-podman %q; want %d and ok", code, level, exitDone)
	}
}
