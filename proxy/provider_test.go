package proxy

import (
	"testing"

	"github.com/regward/regward/auth"
)

// A name that comes into the file is the upstream's no more.
func TestAnUpstreamsNameThatTheFileTakesOver(t *testing.T) {
	file, err := auth.ParseHtpasswd("htpasswd", gatePasswords(), auth.HtpasswdOptions{})
	if err != nil {
		t.Fatal(err)
	}
	registry := testUpstream(t, "http://127.0.0.1:1").logins(nil, false, [32]byte{})
	both := (&provider{file, []func(*auth.Identity) bool{file.Current}}).then(&provider{registry, []func(*auth.Identity) bool{registry.Current}})
	for name, want := range map[string]bool{"ann": false, "somebody": true} {
		id := auth.Identity{Name: name, Via: viaUpstream, Proof: registry.proof}
		if both.vouches(&id) != want {
			t.Errorf("%s of the upstream is known: %v", name, !want)
		}
	}
}
