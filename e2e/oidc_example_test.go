package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// The jobs of configs/examples/ci-keyless.yaml, each with what its comments say.
func TestExampleCIKeyless(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		u := startUpstream(t, distribution)
		u.has(t, "library/hello:1", small(t))
		w.serve(t, "registry:5000", to(t, u.url))
		replaceFile(t, "/etc/regward/kubernetes-ca.pem", readFile(t, suite.certs.caFile))
		issuer := func(host string) *idIssuer {
			i := newIDIssuer(t, "https://"+host)
			w.serve(t, host+":443", i)
			return i
		}
		github, gitlab, cluster := issuer("token.actions.githubusercontent.com"), issuer("gitlab.example.com"), issuer("kubernetes.default.svc.cluster.local")
		const host = "registry.example.com"
		g := w.example(t, "ci-keyless.yaml", host)
		for _, job := range []struct{ client, own, token string }{
			{"skopeo", "app", github.token(github.claims(githubJob("acme/app"), host))},
			{"podman", "tool", gitlab.token(gitlab.claims(gitlabJob("acme/tool"), host))},
			{"crane", "built", cluster.token(cluster.claims(serviceAccount("ci", "builder"), []string{host}, "typ", nil))},
		} {
			c := kindNamed(job.client).new(t, host)
			c.login(t, "oidc", job.token).works(t)
			c.push(t, host+"/acme/"+job.own+":1", small(t)).works(t)
			c.pull(t, host+"/acme/"+job.own+":1").works(t)
			c.push(t, host+"/library/"+job.own+":1", small(t)).fails(t)
		}
		for name, token := range map[string]string{
			"somebody else's job":    github.token(github.claims(githubJob("evil/app"), host)),
			"a token for Sigstore":   github.token(github.claims(githubJob("acme/app"), "sigstore")),
			"a branch of a stranger": gitlab.token(gitlab.claims(gitlabJob("acme/tool"), host, "ref_protected", "false")),
		} {
			newCrane(t, host).login(t, "oidc", token).fails(t, "no longer valid")
			if t.Failed() {
				t.Fatal(name)
			}
		}
		for n, line := range strings.Split(readFile(t, filepath.Join("..", "configs", "examples", "ci-keyless.yaml")), "\n") {
			if strings.Contains(line, "--password-stdin") && !strings.Contains(line, "--password-stdin "+host) {
				t.Errorf("line %d: the token goes to Docker Hub: %s", n+1, line)
			}
		}
		g.leavesOut(t, github.token(github.claims(githubJob("acme/app"), host)))
	})
}
