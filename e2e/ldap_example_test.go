package e2e

import (
	"errors"
	"testing"
	"time"
)

func TestExampleLDAP(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		u := startUpstream(t, distribution)
		u.has(t, "library/hello:1", small(t))
		w.serve(t, "registry:5000", to(t, u.url))
		replaceFile(t, "/etc/regward/ldap-ca.pem", readFile(t, suite.certs.caFile))
		first := newSlapd(t, "198.51.100.26", 389, 636, company())
		second := newSlapd(t, "198.51.100.27", 389, 636, company())
		w.do(func() { first.begin(t); second.begin(t) })
		first.ready(t)
		second.ready(t)
		g := w.example(t, "ldap.yaml", "registry.example.com", "LDAP_PASSWORD="+ldapSecret)
		for _, k := range []clientKind{kindNamed("podman"), kindNamed("crane")} {
			c := k.new(t, g.host)
			c.pull(t, g.host+"/library/hello:1").works(t)
			c.login(t, "Ann", passwords["ann"]).works(t)
			for _, repository := range []string{"shared/", "teams/dev/", "teams/core/", "people/ann/"} {
				c.push(t, g.host+"/"+repository+k.name+":1", small(t)).works(t)
			}
			c.push(t, g.host+"/people/bob/"+k.name+":1", small(t)).fails(t)
			c.pull(t, g.host+"/people/bob/"+k.name+":1").fails(t, "ann is logged in but may not pull")
		}
		first.kill()
		g.logsIn(t, "bob", passwords["bob"]).is(t, 200)
		second.kill()
		g.logsIn(t, "dave", passwords["dave"]).is(t, 503)
		g.logsIn(t, "bob", passwords["bob"]).is(t, 200)
		w.do(func() { second.begin(t) })
		second.ready(t)
		eventually(t, "the directory is asked again", time.Minute, func() error {
			if a := g.logsIn(t, "dave", passwords["dave"]); a.StatusCode != 200 {
				return errors.New(a.Status + ": " + a.body)
			}
			return nil
		})
	})
}
