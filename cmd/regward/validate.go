package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regward/regward/configs"
	regtls "github.com/regward/regward/tls"
)

func (a *app) validateCommand() *cobra.Command {
	var strict, static, online bool
	c := &cobra.Command{
		Use:   "validate [FILE]",
		Short: "Check a configuration, and the files it names, as a whole",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError("validate: one file at a time, as in: regward validate candidate.yaml")
			}
			return nil
		},
		RunE: do(func(ctx context.Context, args []string) error {
			if static && online {
				return usageError("--static reads nothing but the YAML, --online asks upstreams, directories and all others, too: choose one")
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
	c.Flags().BoolVar(&online, "online", false, "ask the upstreams, those who know logins, Redis and the CA too")
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
	say := func(s configs.Severity, path, msg, fix string) {
		line, col := cfg.Place(path)
		problems = append(problems, configs.Problem{Severity: s, File: src.name(), Line: line, Col: col, Path: path, Msg: msg, Fix: fix})
	}
	if static {
		return problems, nil
	}
	settings, err := build(cfg, nil, nil)
	if key := (*keyError)(nil); errors.As(err, &key) {
		say(configs.Error, key.path, key.err.Error(), "")
		return problems, nil
	}
	if err != nil {
		say(configs.Error, "", err.Error(), "")
		return problems, nil
	}
	if settings.Certificates != nil {
		for _, text := range settings.Certificates.Problems(time.Now()) {
			say(configs.Warning, "tls.client_ca_file", text, "")
		}
	}
	checkUpstreams(ctx, cfg, settings, online, say)
	if online {
		checkRedis(ctx, &cfg.Redis, say)
		checkLDAP(ctx, cfg, say)
		checkOIDC(ctx, cfg, say)
		checkWebhook(ctx, cfg, say)
		checkRefresh(cfg, say)
		checkACME(ctx, cfg, say)
	}
	if cfg.TLS.Mode == configs.TLSFiles {
		if pair, err := regtls.Files(cfg.TLS.CertFile, cfg.TLS.KeyFile); err != nil {
			say(configs.Error, "tls.cert_file", err.Error(), "")
		} else {
			for _, text := range pair.Problems(bareHosts(cfg.Hostname), time.Now()) {
				say(configs.Warning, "tls.cert_file", text, "")
			}
		}
	}
	return problems, nil
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
