package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"
)

// demoPulls is how many pulls a minute a login has in the demo: few enough to
// be used up by hand.
const demoPulls = 20

func (a *app) demoCommand() *cobra.Command {
	var check bool
	var listen string
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run against a registry in memory, with users and images, and print what to try",
		Args:  nothingBut("demo: takes no %q"),
		RunE: do(func(ctx context.Context, _ []string) error {
			if check {
				return a.demoCheck(ctx)
			}
			return a.demo(ctx, listen)
		}),
	}
	c.Flags().StringVar(&listen, "listen", "", "the `ADDRESS` on loopback to listen on (default 127.0.0.1:8443, or the next free port)")
	c.Flags().BoolVar(&check, "check", false, "walk the whole tour, print each step, and exit")
	return c
}

// demonstration is a regward with everything around it, in one folder that
// goes away with it.
type demonstration struct {
	dir      string
	host     string // localhost:8443
	server   *server
	upstream *http.Server
}

func (a *app) demo(ctx context.Context, listen string) error {
	d, err := a.newDemonstration(listen)
	if err != nil {
		return err
	}
	defer d.close()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	fmt.Fprint(a.stdout, d.tour())
	return d.server.run(ctx, signals)
}

// newDemonstration starts the upstream, fills it, writes a configuration and
// starts regward on it; the caller runs the server.
func (a *app) newDemonstration(listen string) (d *demonstration, err error) {
	d = &demonstration{}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.dir, err = os.MkdirTemp("", "regward-demo-"); err != nil {
		return d, err
	}
	if listen, err = freeAddress(listen); err != nil {
		return d, err
	}
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		return d, err
	}
	d.host = net.JoinHostPort("localhost", port)
	upstream, err := d.startUpstream()
	if err != nil {
		return d, err
	}
	if err := d.writeFiles(listen, upstream); err != nil {
		return d, err
	}
	// Nothing of the surroundings may change what the demo shows.
	d.server = newServer(a, configSource{path: d.file("regward.yaml"), getenv: func(string) string { return "" }})
	if err := d.server.start(); err != nil {
		return d, err
	}
	if err := os.Mkdir(d.file("certs"), 0o755); err != nil {
		return d, err
	}
	ca := d.server.certs.current.Load().ca()
	return d, os.WriteFile(d.file("certs", "ca.crt"), ca, 0o644)
}

func (d *demonstration) file(elem ...string) string {
	return filepath.Join(append([]string{d.dir}, elem...)...)
}

func (d *demonstration) close() {
	if d.server != nil {
		d.server.stop()
	}
	if d.upstream != nil {
		d.upstream.Close()
	}
	if d.dir != "" {
		os.RemoveAll(d.dir)
	}
}

// freeAddress is listen, or the first free port from 8443 on.
func freeAddress(listen string) (string, error) {
	tries := []string{listen}
	if host, _, err := net.SplitHostPort(listen); listen != "" && err != nil {
		return "", usageError(fmt.Sprintf("demo: --listen %q is no host:port", listen))
	} else if ip := net.ParseIP(host); listen != "" && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", usageError(fmt.Sprintf("demo: --listen %q is not on loopback: everybody knows the passwords of the demo", listen))
	}
	if listen == "" {
		tries = nil
		for port := 8443; port < 8543; port++ {
			tries = append(tries, fmt.Sprintf("127.0.0.1:%d", port))
		}
	}
	var err error
	for _, addr := range tries {
		var l net.Listener
		if l, err = net.Listen("tcp", addr); err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", err
}

// startUpstream runs a registry in memory and puts one image into library/ and
// one into coolteam/.
func (d *demonstration) startUpstream() (address string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	d.upstream = &http.Server{
		Handler:           registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)),
		ReadHeaderTimeout: 10 * time.Second,
	}
	go func() { _ = d.upstream.Serve(l) }()
	address = l.Addr().String()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	for _, repository := range []string{"library/hello", "coolteam/app"} {
		img, err := demoImage("hello from " + repository + "\n")
		if err != nil {
			return "", err
		}
		ref, err := name.ParseReference(address+"/"+repository+":latest", name.Insecure)
		if err != nil {
			return "", err
		}
		if err := remote.Write(ref, img, remote.WithTransport(transport)); err != nil {
			return "", err
		}
	}
	return address, nil
}

// demoImage is an image of one file, for this machine's kind of processor, so
// that docker takes it.
func demoImage(text string) (v1.Image, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: "hello.txt", Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.Cmd = []string{"/hello.txt"}
	return mutate.ConfigFile(img, config)
}

// writeFiles writes what an operator would write: the configuration and the
// users, ann with password ann-demo and bob with bob-demo.
func (d *demonstration) writeFiles(listen, upstream string) error {
	var users strings.Builder
	for _, user := range []string{"ann", "bob"} {
		hash, err := bcrypt.GenerateFromPassword([]byte(user+"-demo"), bcrypt.MinCost) // for show: a real one costs more
		if err != nil {
			return err
		}
		fmt.Fprintf(&users, "%s:%s\n", user, hash)
	}
	config := fmt.Sprintf(`# The demo's configuration. Change it: it is loaded while the demo runs.
hostname: [localhost, 127.0.0.1]
contact: "ask the demo"
listen: %q
tls: {mode: internal}
upstream: "http://%s"
auth: {htpasswd: %q}
groups: {coolteam: [ann]}
rules:
  - {subjects: everyone,       repositories: "library/**",  allow: pull}
  - {subjects: group:coolteam, repositories: "coolteam/**", allow: [pull, push]}
limits:
  - {name: people, subjects: authenticated, count: pulls, rate: %d/m, per: user}
log: {level: error, access: %q, audit: %q}
admin: {listen: %q}
health: {listen: "off"}
state_dir: %q
shutdown_delay: 0s
shutdown_timeout: 5s
`, listen, upstream, d.file("users"), demoPulls, d.file("access.log"), d.file("audit.log"),
		"unix:"+d.file("admin.sock"), d.file("state"))
	return errors.Join(
		os.WriteFile(d.file("users"), []byte(users.String()), 0o600),
		os.WriteFile(d.file("regward.yaml"), []byte(config), 0o600),
	)
}

// tour is what demo prints: lines to paste.
func (d *demonstration) tour() string {
	return strings.NewReplacer("HOST", d.host, "DIR", d.dir, "CERTS", d.file("certs"), "PULLS", fmt.Sprint(demoPulls)).Replace(
		`regward is in front of a registry in memory, at https://HOST

  library/hello is for everybody. coolteam/app is for the group coolteam: ann.
  ann has the password ann-demo, bob has bob-demo; each login may pull PULLS times a minute.

docker (trusts localhost by itself)
  docker pull HOST/library/hello
  docker pull HOST/coolteam/app                                # refused: not logged in
  echo ann-demo | docker login -u ann --password-stdin HOST
  docker pull HOST/coolteam/app
  docker tag HOST/coolteam/app HOST/coolteam/mine && docker push HOST/coolteam/mine

podman
  podman pull --cert-dir CERTS HOST/library/hello
  podman pull --cert-dir CERTS --creds ann:ann-demo HOST/coolteam/app

skopeo
  skopeo inspect --cert-dir CERTS docker://HOST/library/hello
  skopeo inspect --cert-dir CERTS --creds bob:bob-demo docker://HOST/coolteam/app     # refused: bob is not in coolteam

crane
  export SSL_CERT_FILE=CERTS/ca.crt
  crane manifest HOST/library/hello
  echo ann-demo | crane auth login HOST -u ann --password-stdin && crane ls HOST/coolteam/app

curl
  curl --cacert CERTS/ca.crt https://HOST/v2/library/hello/tags/list -u ann:ann-demo
  curl --cacert CERTS/ca.crt https://HOST/v2/coolteam/app/tags/list -u bob:bob-demo   # refused

why was that refused, who may what
  regward --config DIR/regward.yaml explain --last
  regward --config DIR/regward.yaml explain --repository coolteam/app --who

Change DIR/regward.yaml and it is loaded at once. Logs: DIR/access.log, DIR/audit.log.
Ctrl-C ends it and removes everything.
`)
}
