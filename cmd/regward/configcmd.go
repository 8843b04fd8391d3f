package main

import (
	"context"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/regward/regward/configs"
)

func (a *app) configCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Start, show or describe a configuration",
		Args:  nothingBut("config: there is no %q; choose init, show or schema"),
		RunE: do(func(context.Context, []string) error {
			return usageError("config: choose init, show or schema")
		}),
	}
	c.AddCommand(
		&cobra.Command{
			Use:   "init [FILE]",
			Short: "Write a commented configuration to start from, to FILE (never over one) or stdout",
			Args: func(_ *cobra.Command, args []string) error {
				if len(args) > 1 {
					return usageError("config init: one file, as in: regward config init regward.yaml")
				}
				return nil
			},
			RunE: do(func(_ context.Context, args []string) error {
				if len(args) == 0 {
					_, err := a.stdout.Write(configs.Starter())
					return err
				}
				f, err := os.OpenFile(args[0], os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
				if err != nil {
					return err
				}
				if _, err := f.Write(configs.Starter()); err != nil {
					f.Close()
					return err
				}
				return f.Close()
			}),
		},
		&cobra.Command{
			Use:   "show",
			Short: "Print every effective value and where it comes from, secrets hidden",
			Args:  nothingBut("config show: takes no %q"),
			RunE:  do(func(context.Context, []string) error { return a.configShow() }),
		},
		&cobra.Command{
			Use:   "schema",
			Short: "Print the JSON Schema of the file, for editors",
			Args:  nothingBut("config schema: takes no %q"),
			RunE: do(func(context.Context, []string) error {
				_, err := a.stdout.Write(configs.Schema())
				return err
			}),
		},
	)
	return c
}

func (a *app) configShow() error {
	src, err := a.source("")
	if err != nil {
		return err
	}
	cfg, err := src.load(false)
	if err != nil {
		return err
	}
	fields := cfg.Show()
	if a.json() {
		return a.printJSON(fields)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	for _, f := range fields {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Path, f.Value, f.Origin)
	}
	return w.Flush()
}
