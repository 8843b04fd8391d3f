package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regward/regward/configs"
	"github.com/regward/regward/proxy"
	regtls "github.com/regward/regward/tls"
)

func (a *app) validateCommand() *cobra.Command {
	var strict, static, online bool
	c := &cobra.Command{
		Use:   "validate [FILE]",
		Short: "Check a configuration, and the files it names, as a whole",
		Args:  cobra.MaximumNArgs(1),
		RunE: do(func(ctx context.Context, args []string) error {
			if static && online {
				return usageError("--static reads nothing but the YAML, --online asks the upstream: choose one")
			}
			src, err := a.source(strings.Join(args, ""))
			if err != nil {
				return err
			}
			problems, err := check(ctx, src, static, online)
			if err != nil {
				return err
			}
			return a.printValidation(src, problems, strict)
		}),
	}
	c.Flags().BoolVar(&strict, "strict", false, "warnings fail too")
	c.Flags().BoolVar(&static, "static", false, "read nothing but the YAML: absent variables and files are notes")
	c.Flags().BoolVar(&online, "online", false, "ask the upstream too")
	return c
}

// check is everything that is wrong with a configuration; the error is for one
// that cannot be read.
func check(ctx context.Context, src configSource, static, online bool) (configs.Problems, error) {
	cfg, err := src.load(static)
	var problems configs.Problems
	switch {
	case errors.As(err, &problems):
		return problems, nil
	case err != nil:
		return nil, err
	}
	problems = cfg.Warnings
	say := func(s configs.Severity, path, msg string) {
		line, col := cfg.Place(path)
		problems = append(problems, configs.Problem{Severity: s, File: src.name(), Line: line, Col: col, Path: path, Msg: msg})
	}
	if static {
		return problems, nil
	}
	settings, err := build(cfg, nil, nil)
	if err != nil {
		say(configs.Error, "", err.Error())
		return problems, nil
	}
	up, err := proxy.NewUpstream(settings.Upstreams[0], proxy.UpstreamOptions{})
	if err != nil {
		say(configs.Error, "upstream", err.Error())
	} else {
		defer up.Close()
	}
	if cfg.TLS.Mode == configs.TLSFiles {
		if pair, err := regtls.Files(cfg.TLS.CertFile, cfg.TLS.KeyFile); err != nil {
			say(configs.Error, "tls.cert_file", err.Error())
		} else {
			for _, text := range pair.Problems(bareHosts(cfg.Hostname), time.Now()) {
				say(configs.Warning, "tls.cert_file", text)
			}
		}
	}
	if online && up != nil {
		checkOnline(ctx, up, settings.Upstreams[0], say)
	}
	return problems, nil
}

// checkOnline asks the upstream what the operator cannot know: whether it lets
// everybody in (M3), and whether it takes the account.
func checkOnline(ctx context.Context, up *proxy.Upstream, u proxy.UpstreamSettings, say func(configs.Severity, string, string)) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	probe, err := up.Probe(ctx)
	switch {
	case err != nil && probe.Open:
		say(configs.Error, "upstream", fmt.Sprintf("upstream %s lets everybody in, and does not answer with the account: %v", u.URL, err))
	case err != nil:
		msg := fmt.Sprintf("upstream %s cannot be reached or does not answer like a registry: %v", u.URL, err)
		var unknown x509.UnknownAuthorityError
		if errors.As(err, &unknown) {
			msg += "; name the CA it comes from in upstream.ca_file"
		}
		say(configs.Error, "upstream", msg)
	case probe.Open:
		msg := fmt.Sprintf("upstream %s serves /v2/ without a login: anybody who reaches it passes regward by.", u.URL)
		if strings.Contains(probe.Server, "Nexus") || strings.Contains(u.URL.Path, "/repository/") {
			msg += fmt.Sprintf(" In Nexus turn off \"Allow anonymous docker pull\" and Anonymous Access, and let only this host reach port %s.", portOf(u))
		} else {
			msg += " Let only this host reach it."
		}
		say(configs.Warning, "upstream", msg)
	case u.Username == "":
		say(configs.Warning, "upstream", fmt.Sprintf("upstream %s asks for a login, and none is configured: set upstream.username and upstream.password, unless what it gives to anybody is enough", u.URL))
	}
	if probe.Login != "" {
		say(configs.Error, "upstream.username", fmt.Sprintf("upstream %s: %s; check upstream.username and upstream.password", u.URL, probe.Login))
	}
}

func portOf(u proxy.UpstreamSettings) string {
	if p := u.URL.Port(); p != "" {
		return p
	}
	if port, err := net.LookupPort("tcp", u.URL.Scheme); err == nil {
		return fmt.Sprint(port)
	}
	return "80"
}

// validation is what validate prints as JSON.
type validation struct {
	OK       bool             `json:"ok"`
	File     string           `json:"file"`
	Problems configs.Problems `json:"problems"`
}

func (a *app) printValidation(src configSource, problems configs.Problems, strict bool) error {
	errs, warnings := len(problems.Only(configs.Error)), len(problems.Only(configs.Warning))
	ok := errs == 0 && (!strict || warnings == 0)
	if a.json() {
		if problems == nil {
			problems = configs.Problems{}
		}
		if err := a.printJSON(validation{OK: ok, File: src.name(), Problems: problems}); err != nil {
			return err
		}
	} else {
		for _, p := range problems {
			fmt.Fprintln(a.stdout, p)
		}
		verdict := "is good"
		switch {
		case errs > 0 && warnings > 0:
			verdict = fmt.Sprintf("has %s and %s", plural(errs, "error"), plural(warnings, "warning"))
		case errs > 0:
			verdict = "has " + plural(errs, "error")
		case warnings > 0:
			verdict = "has " + plural(warnings, "warning")
		}
		fmt.Fprintf(a.stdout, "%s %s\n", src.name(), verdict)
	}
	if !ok {
		return errTold
	}
	return nil
}
