package e2e

import (
	"testing"
)

// Every file of configs/examples is used as it stands: with its names, its
// ports and its paths, and nothing set but its secrets.

func TestExampleMinimal(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		u := startUpstream(t, distribution)
		u.has(t, "library/hello:1", small(t))
		u.has(t, "coolteam/app:1", small(t))
		w.here(t, "127.0.0.1:5000", to(t, u.url)) // beside regward
		g := w.example(t, "minimal.yaml", "registry.example.com")
		for _, k := range []clientKind{kindNamed("crane"), kindNamed("podman")} {
			c := k.new(t, g.host)
			c.pull(t, g.host+"/library/hello:1").works(t)
			c.pull(t, g.host+"/coolteam/app:1").fails(t, "not logged in")
			c.login(t, "bob", passwords["bob"]).works(t)
			c.pull(t, g.host+"/coolteam/app:1").works(t)
			c.push(t, g.host+"/coolteam/from-"+k.name+":1", small(t)).works(t)
		}
	})
}

func TestExampleLimits(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		u := startUpstream(t, distribution)
		u.has(t, "library/hello:1", small(t))
		w.serve(t, "registry:5000", to(t, u.url))
		g := w.example(t, "limits.yaml", "registry.example.com")
		k := newCrane(t, g.host).(*crane)
		for range 100 {
			token := g.token(t, "", "repository:library/hello:pull")
			g.send(t, "GET", "/v2/library/hello/manifests/1", token, nil).is(t, 200)
			if t.Failed() {
				return
			}
		}
		k.run(t, "manifest", g.host+"/library/hello:1").fails(t, `limit "anonymous"`)
		k.login(t, "bob", passwords["bob"]).works(t)
		k.push(t, g.host+"/coolteam/app:1", small(t)).works(t)
	})
}

func TestExampleInternalTLS(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		u := startUpstream(t, distributionBasic)
		u.has(t, "library/hello:1", small(t))
		w.serve(t, "registry:5000", to(t, u.url))
		g := w.example(t, "internal-tls.yaml", "registry.internal", "REGISTRY_PASSWORD="+upstreamPassword)
		// What its first lines say: clients have to trust what `regward ca` prints.
		w.trust(t, g.cli(t, "ca").works(t).out)
		for _, host := range []string{"registry.internal", "10.0.0.5"} {
			k := newSkopeo(t, host)
			k.pull(t, host+"/library/hello:1").works(t)
			k.push(t, host+"/coolteam/app:1", small(t)).fails(t, "not logged in")
			k.login(t, "ann", passwords["ann"]).works(t)
			k.push(t, host+"/coolteam/app:1", small(t)).works(t)
		}
	})
}
