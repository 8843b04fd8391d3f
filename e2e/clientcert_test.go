package e2e

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// believing puts the CA of clients into the part of the configuration that no
// test is about.
func (g *regward) believing(t testing.TB, more string) {
	t.Helper()
	own := fmt.Sprintf("tls: {cert_file: %q, key_file: %q", suite.certs.certFile, suite.certs.keyFile)
	if !strings.Contains(g.frame, own) {
		t.Fatalf("no such line: %s", own)
	}
	g.frame = strings.Replace(g.frame, own, own+", "+more, 1)
}

// says waits for words in what the program prints.
func (g *regward) says(t testing.TB, words string) {
	t.Helper()
	eventually(t, words, 30*time.Second, func() error {
		if strings.Contains(strings.ReplaceAll(g.proc.output(), `\"`, `"`), words) {
			return nil
		}
		return errors.New(tail(g.proc.output(), 5))
	})
}

// docker and podman show what lies beside the CA in certs.d, and never ask for a
// password while it is good.
func TestX05_DaemonsLogInByTheirCertificates(t *testing.T) {
	inside(t, func(t *testing.T, _ *world) {
		u := startUpstream(t, distribution)
		u.has(t, "library/hello:1", small(t))
		u.has(t, "coolteam/app:1", small(t))
		people := newIDCards(t, "acme people")
		g := newRegward(t, u.config)
		g.frame = strings.NewReplacer("hostname: [localhost, 127.0.0.1]", "hostname: registry.example.com", fmt.Sprintf("%q", strings.Replace(g.host, "localhost", "127.0.0.1", 1)), `":443"`).Replace(g.frame)
		g.host = "registry.example.com"
		g.believing(t, fmt.Sprintf("client_ca_file: %q", people.caFile))
		g.configure(t, teamRules)
		g.serve(t)
		folder := filepath.Join("/etc/docker/certs.d", g.host)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		replaceFile(t, filepath.Join(folder, "ca.crt"), readFile(t, suite.certs.caFile))
		hold := func(card idCard) { // what podman reads too, named by --cert-dir
			replaceFile(t, filepath.Join(folder, "client.cert"), readFile(t, card.cert))
			replaceFile(t, filepath.Join(folder, "client.key"), readFile(t, card.key))
		}
		d, p := newDocker(t, g.host).(*docker), newPodman(t, g.host).(*podman)
		podman := func(args ...string) outcome {
			return p.run(t, append([]string{args[0], "--cert-dir", folder}, args[1:]...)...)
		}
		app, own := g.host+"/coolteam/app:1", g.host+"/coolteam/mine:1"

		d.pull(t, app).fails(t, "not logged in")
		hold(people.give("Ann"))
		d.pull(t, app).works(t)
		d.pushPulled(t, app, own).works(t)
		d.pushPulled(t, app, g.host+"/library/mine:1").fails(t, "denied")
		d.login(t, "dave", passwords["dave"]).works(t) // a login decides, whoever's machine it is
		d.pushPulled(t, app, own).fails(t, "denied")
		d.logout(t).works(t)
		podman("pull", app).works(t)
		p.run(t, "tag", app, own).works(t)
		podman("push", own).works(t)

		hold(people.give("ann", expired))
		for _, o := range []outcome{d.pull(t, app), podman("pull", app)} {
			o.fails(t, `the client certificate of "ann" expired on`, "ask for a new one. Or: docker login "+g.host)
			g.recordsWhatWasShown(t, o)
		}
		hold(newIDCards(t, "somebody else").give("ann")) // not shown at all: regward names the CAs it wants
		d.pull(t, app).fails(t, "not logged in")
		hold(people.give("ann", expired))
		d.login(t, "bob", passwords["bob"]).works(t)
		d.pull(t, app).works(t)
		if log := g.auditLog(t); !strings.Contains(log, `"via":"certificate"`) || !strings.Contains(log, `"reason":"bad_certificate"`) {
			t.Error("the audit log tells of no certificate")
		}
	})
}

// A list that is put in its place ends a certificate, and the tokens it has got,
// without anybody's doing; what is no whole list changes nothing.
func TestX05_ARevocationListIsReadAgainOnChange(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "coolteam/app:1", small(t))
	people := newIDCards(t, "acme people")
	ann, bob := people.give("ann"), people.give("bob")
	list := filepath.Join(t.TempDir(), "people.crl")
	replaceFile(t, list, people.list())
	g := newRegward(t, u.config)
	g.believing(t, fmt.Sprintf("client_ca_file: %q, client_cert: {crl_file: %q}", people.caFile, list))
	g.configure(t, teamRules)
	g.serve(t)
	const target = "/v2/coolteam/app/manifests/1"
	g.shows(t, ann)
	token := g.token(t, "", "repository:coolteam/app:pull")
	g.send(t, "GET", target, "", nil).is(t, 200)
	g.send(t, "GET", target, token, nil).is(t, 200)
	curl := func(card idCard) outcome {
		return command(t, nil, mustProgram(t, "curl"), "--silent", "--show-error", "--fail-with-body", "--cacert", suite.certs.caFile,
			"--cert", card.cert, "--key", card.key, "https://"+g.host+target)
	}
	curl(ann).works(t)
	curl(people.give("ann", expired)).fails(t, "401", "expired on")
	// curl shows what it was given, whichever CAs are asked for.
	curl(newIDCards(t, "somebody else").give("ann")).fails(t, "401", "which is no CA for logins here")

	replaceFile(t, list, people.list(ann))
	eventually(t, "ann's token has ended", 30*time.Second, func() error {
		if a := g.send(t, "GET", target, token, nil); a.StatusCode != 401 || !strings.Contains(a.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			return errors.New(a.Status)
		}
		return nil
	})
	if a := g.send(t, "GET", target, "", nil).is(t, 401); !strings.Contains(a.body, "has been revoked") {
		t.Error(a.body)
	}
	curl(ann).fails(t, "has been revoked")
	curl(bob).works(t)

	// Half a list, and one of somebody else's.
	replaceFile(t, list, people.list()[:120])
	g.says(t, "tls.client_cert.crl_file: "+list+": ends in the middle of list 1")
	g.cli(t, "validate").fails(t, list+": ends in the middle of list 1", "regward.yaml:")
	curl(ann).fails(t, "has been revoked")
	replaceFile(t, list, newIDCards(t, "somebody else").list())
	g.says(t, `list 1 in it is by "CN=somebody else", whose certificate is not in tls.client_ca_file`)
	curl(ann).fails(t, "has been revoked")
	curl(bob).works(t)
	replaceFile(t, list, people.list(bob))
	eventually(t, "bob is revoked, and ann no longer", 30*time.Second, func() error {
		if o := curl(bob); o.err == nil {
			return errors.New("bob comes in")
		}
		return nil
	})
	curl(ann).works(t)
}

func TestX05_ASPIFFEIDIsAUser(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "builds/app:1", small(t))
	workloads := newIDCards(t, "spire")
	const id = "spiffe://acme.example/ns/ci/sa/builder"
	g := newRegward(t, u.config)
	g.believing(t, fmt.Sprintf("client_ca_file: %q, client_cert: {user: san_uri}", workloads.caFile))
	g.configure(t, `
groups: {builders: ["`+id+`"]}
rules:
  - {subjects: "user:`+id+`", repositories: "builds/**", allow: pull}
  - {subjects: group:builders, repositories: "builds/**", allow: push}
`)
	g.serve(t)
	named := func(id string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			u, err := url.Parse(id)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = []*url.URL{u}
		}
	}
	g.shows(t, workloads.give("x", named(id)))
	g.send(t, "GET", "/v2/builds/app/manifests/1", "", nil).is(t, 200)
	g.send(t, "POST", "/v2/builds/app/blobs/uploads/", "", nil).is(t, 202)
	g.shows(t, workloads.give("x", named("spiffe://acme.example/ns/ci/sa/other")))
	g.send(t, "GET", "/v2/builds/app/manifests/1", "", nil).is(t, 401)
	g.cli(t, "explain", "--user", id, "--repository", "builds/app", "--action", "push").works(t)
}
