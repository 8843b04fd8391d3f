package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/regward/regward/configs"
)

// Exit codes, as config.md section 9 has them.
const (
	exitDone   = 0 // done, or allowed
	exitFailed = 1 // failed, denied, or problems found
	exitUsage  = 2 // wrong use
)

// app is what every command may use of the world outside.
type app struct {
	getenv func(string) string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer

	configFile string // --config
	output     string // --output
}

// run is the program: it runs one command line and returns its exit code.
func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{getenv: getenv, stdin: stdin, stdout: stdout, stderr: stderr}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)

	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	var failed failure
	if !errors.As(err, &failed) {
		fmt.Fprintf(stderr, "regward: %v\n%s --help tells how it is used\n", err, command.CommandPath())
		return exitUsage
	}
	a.report(failed.error)
	return exitFailed
}

// failure is an error of a command that was used rightly. Every other error
// comes from reading the command line.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// usageError is wrong use that only the command itself can see.
type usageError string

func (e usageError) Error() string { return string(e) }

// errTold ends a command with exit code 1 after it has printed why.
var errTold = errors.New("already told")

// report prints why a command failed, once.
func (a *app) report(err error) {
	var problems configs.Problems
	switch {
	case errors.Is(err, errTold):
	case errors.As(err, &problems):
		a.reportProblems(problems)
	default:
		fmt.Fprintf(a.stderr, "regward: %v\n", err)
	}
}

// reportProblems prints every problem of a configuration, and how many errors
// that makes.
func (a *app) reportProblems(problems configs.Problems) {
	fmt.Fprintln(a.stderr, problems.Error())
	fmt.Fprintf(a.stderr, "regward: %s in the configuration\n", plural(len(problems.Only(configs.Error)), "error"))
}

// do wraps the body of a command so that its errors are told from wrong use.
func do(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := f(cmd.Context(), args)
		var wrong usageError
		if err == nil || errors.As(err, &wrong) {
			return err
		}
		return failure{err}
	}
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "regward",
		Short:         "An authenticating, rate-limiting proxy in front of container registries",
		Version:       readBuild().Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.output != "text" && a.output != "json" {
				return fmt.Errorf("--output is text or json, not %q", a.output)
			}
			return nil
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.configFile, "config", "", "configuration `FILE`; else $REGWARD_CONFIG, ./regward.yaml, /etc/regward/regward.yaml")
	flags.StringVar(&a.output, "output", "text", "`FORMAT` of what is printed: text or json")
	root.InitDefaultVersionFlag() // now, so that flags behind --version are read rightly
	root.AddCommand(
		a.serveCommand(),
		a.validateCommand(),
		a.explainCommand(),
		a.reloadCommand(),
		a.statusCommand(),
		a.limitsCommand(),
		a.topCommand(),
		a.revokeCommand(),
		a.tokenCommand(),
		a.auditCommand(),
		a.doctorCommand(),
		a.diffCommand(),
		a.replayCommand(),
		a.demoCommand(),
		a.hashPasswordCommand(),
		a.configCommand(),
		a.trustCommand(),
		a.caCommand(),
		a.healthcheckCommand(),
		a.versionCommand(),
	)
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Args, c.RunE = cobra.ArbitraryArgs, func(*cobra.Command, []string) error {
				return usageError("completion: choose bash, zsh, fish or powershell")
			}
		}
	}
	return root
}

// json reports whether --output json was asked for.
func (a *app) json() bool { return a.output == "json" }

// printJSON prints v for programs.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// plural is "1 error", "2 errors".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
