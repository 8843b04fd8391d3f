package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// maxAnswer bounds what is read from the running instance: 10,000 refusals.
const maxAnswer = 64 << 20

// instance is a way to the running instance.
type instance struct {
	addresses []string // as listen has them; the first that answers is it
	token     string
	what      string // the key that names the addresses
}

// adminClient reaches the admin listener of the instance that runs with this
// configuration. The configuration may be broken meanwhile.
func (a *app) adminClient() (*instance, error) {
	src, at, err := a.places()
	if err != nil {
		return nil, err
	}
	if len(at.Admin) == 0 {
		return nil, fmt.Errorf("admin.listen is off in %s: the running instance cannot be asked", src.name())
	}
	i := &instance{addresses: at.Admin, what: "admin.listen"}
	if at.TokenFile != "" {
		file := at.TokenFile
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(src.path), file)
		}
		// Who may not read it may still be on this machine, and needs none.
		i.token, _ = readAdminToken(file)
	}
	return i, nil
}

// places are those of the configuration; defaults if there is none that can be
// read or understood.
func (a *app) places() (configSource, places, error) {
	src, err := a.source("")
	if err != nil {
		return src, places{}, err
	}
	text, err := src.read()
	if err != nil {
		return src, places{}, err
	}
	at := glance(text)
	if cfg, err := src.parse(text, true); err == nil {
		at = places{StateDir: cfg.StateDir, Admin: cfg.Admin.Listen, Health: cfg.Health.Listen, TokenFile: cfg.Admin.TokenFile}
	}
	return src, at, nil
}

// do asks the first address that can be reached.
func (i *instance) do(ctx context.Context, method, target string) (status int, body []byte, err error) {
	return i.send(ctx, method, target, nil)
}

// call asks with in as JSON, unless it is nil, and reads the answer into out.
// What is not answered 200 is an error, in the instance's own words.
func (i *instance) call(ctx context.Context, method, target string, in, out any) error {
	var sent []byte
	if in != nil {
		var err error
		if sent, err = json.Marshal(in); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	status, body, err := i.send(ctx, method, target, sent)
	if err != nil {
		return err
	}
	text := strings.TrimSpace(string(body))
	switch {
	case status == http.StatusOK:
	case status >= 400 && (status < 500 || status == http.StatusServiceUnavailable) && status != http.StatusForbidden && text != "":
		return errors.New(text)
	default:
		return fmt.Errorf("the running instance answered %d: %s", status, text)
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("the running instance answered what is no JSON: %w", err)
	}
	return nil
}

// send is do with a body.
func (i *instance) send(ctx context.Context, method, target string, sent []byte) (status int, body []byte, err error) {
	var errs []error
	for _, addr := range i.addresses {
		status, body, err := i.ask(ctx, addr, method, target, sent)
		if err == nil {
			return status, body, nil
		}
		errs = append(errs, err)
	}
	err = errors.Join(errs...)
	at := fmt.Sprintf("%s (%s)", strings.Join(i.addresses, ", "), i.what)
	if errors.Is(err, fs.ErrPermission) {
		return 0, nil, fmt.Errorf("not allowed to ask the instance at %s: %w: who runs it may, and root", at, err)
	}
	return 0, nil, fmt.Errorf("no running instance at %s: %w: is `regward serve` running, with this configuration?", at, err)
}

func (i *instance) ask(ctx context.Context, addr, method, target string, sent []byte) (int, []byte, error) {
	if strings.HasPrefix(addr, fromSystemd) {
		return 0, nil, fmt.Errorf("%s: where that is, systemd knows: `systemctl list-sockets`; write the address itself", addr)
	}
	network, address, host := dialAddress(addr)
	var dialer net.Dialer
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, address)
		},
		DisableKeepAlives:     true,
		ResponseHeaderTimeout: time.Minute,
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+host+target, bytes.NewReader(sent))
	if err != nil {
		return 0, nil, err
	}
	if i.token != "" {
		req.Header.Set("Authorization", "Bearer "+i.token)
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return res.StatusCode, body, err
}

// dialAddress turns a listening address into one to dial: 0.0.0.0 is this
// machine.
func dialAddress(listen string) (network, address, host string) {
	if path, ok := strings.CutPrefix(listen, "unix:"); ok {
		return "unix", path, "localhost"
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "tcp", listen, "localhost"
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip.Is6() {
			host = "::1"
		}
	}
	address = net.JoinHostPort(host, port)
	return "tcp", address, address
}

func (a *app) healthcheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the running instance whether it is ready: for images without a shell",
		Args:  nothingBut("healthcheck: takes no %q"),
		RunE: do(func(ctx context.Context, _ []string) error {
			_, at, err := a.places()
			if err != nil {
				return err
			}
			i := &instance{addresses: append(at.Health, at.Admin...), what: "health.listen and admin.listen"}
			if len(i.addresses) == 0 {
				return fmt.Errorf("health.listen and admin.listen are off: there is nothing to ask")
			}
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			status, body, err := i.do(ctx, http.MethodGet, "/readyz")
			if err != nil {
				return err
			}
			text := strings.TrimSpace(string(body))
			if a.json() {
				err = a.printJSON(map[string]any{"ready": status == http.StatusOK, "status": status, "body": text})
			} else {
				_, err = fmt.Fprintln(a.stdout, text)
			}
			if err == nil && status != http.StatusOK {
				err = errTold
			}
			return err
		}),
	}
}
