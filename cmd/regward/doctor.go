package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/regward/regward/doctor"
	"github.com/regward/regward/trust"
)

// doctorFlags are what doctor was asked.
type doctorFlags struct {
	user, repository, origin, caFile, root string
	passwordStdin                          bool
}

func (a *app) doctorCommand() *cobra.Command {
	var d doctorFlags
	c := &cobra.Command{
		Use:   "doctor URL",
		Short: "Look at a registry or proxy as clients do, and say what is wrong and how to repair it",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError("doctor: which registry? as in: regward doctor https://docker.acme.example --user ann --password-stdin --repository coolteam/app")
			}
			return nil
		},
		RunE: do(func(ctx context.Context, args []string) error {
			ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
			defer stop() // what was started at the registry is cancelled first
			return a.doctor(ctx, args[0], d)
		}),
	}
	f := c.Flags()
	f.StringVar(&d.user, "user", "", "log in as `NAME`")
	f.BoolVar(&d.passwordStdin, "password-stdin", false, "read the password of --user from stdin")
	f.StringVar(&d.repository, "repository", "", "the `NAME` of a repository: what may be done with it is tried, and with --user whether a layer gets through; nothing is stored")
	f.StringVar(&d.origin, "origin", "", "the `URL` of a web page that has to reach the registry")
	f.StringVar(&d.caFile, "ca-file", "", "trust the CAs in this PEM `FILE` too")
	f.StringVar(&d.root, "root", "/", "the `FOLDER` below which clients' trust folders are looked for")
	_ = f.MarkHidden("root") // it exists
	return c
}

func (a *app) doctor(ctx context.Context, url string, d doctorFlags) error {
	o, err := a.doctorOptions(url, d)
	if err != nil {
		return err
	}
	report := doctor.Run(ctx, o)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("doctor: interrupted: %w", err)
	}
	lookAtTrust(&report, d.root)
	if a.json() {
		err = a.printJSON(report)
	} else {
		err = printReport(a.stdout, report)
	}
	if err == nil && report.Count(doctor.Problem) > 0 {
		err = errTold
	}
	return err
}

func (a *app) doctorOptions(url string, d doctorFlags) (doctor.Options, error) {
	o := doctor.Options{User: d.user, Repository: d.repository, Origin: strings.TrimRight(d.origin, "/"), Getenv: a.getenv}
	var err error
	if o.Target, err = doctor.ParseTarget(url); err != nil {
		return o, usageError("doctor: " + err.Error())
	}
	if d.repository != "" {
		if err := doctor.CheckRepository(d.repository); err != nil {
			return o, usageError("doctor: --repository: " + err.Error())
		}
	}
	if d.origin != "" {
		page, err := doctor.ParseTarget(d.origin)
		if err != nil || !strings.Contains(d.origin, "://") || page.Path != "" {
			return o, usageError(fmt.Sprintf("doctor: --origin: %q is no origin, as in https://pages.acme.example", d.origin))
		}
	}
	if (d.user != "") != d.passwordStdin {
		return o, usageError("doctor: --user and --password-stdin go together: a password is never an argument, which others can see")
	}
	if strings.ContainsAny(d.user, ":\r\n") {
		return o, usageError("doctor: --user: a user name has no colon and no line break")
	}
	if d.caFile != "" {
		if o.CA, err = readCAFile(d.caFile); err != nil {
			return o, usageError("doctor: " + err.Error())
		}
	}
	if d.passwordStdin {
		if o.Password, err = a.readPassword(); err != nil {
			return o, usageError("doctor: " + err.Error())
		}
	}
	return o, nil
}

// lookAtTrust adds what docker, containerd, podman and the system on this host
// would make of the certificates that were shown.
func lookAtTrust(r *doctor.Report, root string) {
	if len(r.Chain) == 0 {
		r.NotTried = append(r.NotTried, doctor.Untried{Check: "trust", Why: "no certificate was shown"})
		return
	}
	for _, f := range trust.Look(root, r.Host, r.Chain) {
		r.Findings = append(r.Findings, doctor.Finding{Check: "trust-" + f.Client, Level: doctor.Level(f.Level), What: harmless(f.What), Why: harmless(f.Why), Fix: harmless(f.Fix)})
	}
}

// printReport prints what is wrong first and what was left out last.
func printReport(w io.Writer, r doctor.Report) error {
	var b strings.Builder
	width := len("  why")
	for _, f := range r.Findings {
		width = max(width, len(f.Check))
	}
	line := func(first, second, text string) {
		fmt.Fprintf(&b, "%-9s  %-*s  %s\n", first, width, second, text)
	}
	for _, level := range []doctor.Level{doctor.Problem, doctor.Warning, doctor.Note, doctor.OK} {
		for _, f := range r.Findings {
			if f.Level != level {
				continue
			}
			line(string(level), f.Check, f.What)
			if f.Why != "" {
				line("", "  why", f.Why)
			}
			if f.Fix != "" {
				line("", "  fix", f.Fix)
			}
			if level == doctor.Problem || level == doctor.Warning {
				b.WriteByte('\n')
			}
		}
	}
	for i := 0; i < len(r.NotTried); {
		why, checks := r.NotTried[i].Why, []string{}
		for ; i < len(r.NotTried) && r.NotTried[i].Why == why; i++ {
			checks = append(checks, r.NotTried[i].Check)
		}
		fmt.Fprintf(&b, "not tried  %s: %s\n", strings.Join(checks, ", "), why)
	}
	fmt.Fprintf(&b, "\n%s: %s, %s, %s, %d in order, %d not tried\n", r.URL, plural(r.Count(doctor.Problem), "problem"),
		plural(r.Count(doctor.Warning), "warning"), plural(r.Count(doctor.Note), "note"), r.Count(doctor.OK), len(r.NotTried))
	_, err := io.WriteString(w, b.String())
	return err
}
