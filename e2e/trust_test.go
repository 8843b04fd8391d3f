package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

// Clients find a private CA in a folder named after the host as it was typed,
// port and all; without it they say so and nothing else helps.
func TestX03_APrivateCAIsFoundInCertsD(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	g := startRegward(t, u, teamRules)
	k := newSkopeo(t, g.host).(*skopeo)
	k.env = append(k.env, "SSL_CERT_FILE=") // what the other tests trust by
	inspect := func() outcome { return k.run(t, "inspect", "docker://"+g.host+"/library/hello:1") }
	inspect().fails(t, "x509")

	ca, err := os.ReadFile(filepath.Join(suite.certs.dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	trust := filepath.Join("/etc/containers/certs.d", g.host) // the port of this test is nobody else's
	if err := os.MkdirAll(trust, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(trust) })
	if err := os.WriteFile(filepath.Join(trust, "ca.crt"), ca, 0o644); err != nil {
		t.Fatal(err)
	}
	inspect().works(t)
}
