package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/regward/regward/configs"
)

// difference is what diff prints as JSON.
type difference struct {
	Changes []string `json:"changes"`
	Restart []string `json:"restart"` // keys that only a restart applies
}

func (a *app) diffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Say in words what a change of the configuration gives and takes",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usageError("diff: which two configurations, the old one first? as in: regward diff regward.yaml candidate.yaml")
			}
			return nil
		},
		RunE: do(func(_ context.Context, args []string) error {
			var cfgs [2]*configs.Config
			for i, name := range args {
				// Reviews happen where secrets and files are not.
				cfg, err := configSource{path: name, getenv: a.getenv}.load(true)
				var problems configs.Problems
				if errors.As(err, &problems) {
					return problems.Only(configs.Error)
				}
				if err != nil {
					return err
				}
				cfgs[i] = cfg
			}
			d := difference{Changes: []string{}, Restart: []string{}}
			d.Changes = append(d.Changes, configs.Diff(cfgs[0], cfgs[1])...)
			d.Restart = append(d.Restart, configs.NeedRestart(cfgs[0], cfgs[1])...)
			if a.json() {
				return a.printJSON(d)
			}
			for _, line := range d.Changes {
				fmt.Fprintln(a.stdout, line)
			}
			for _, key := range d.Restart {
				fmt.Fprintf(a.stdout, "%s: needs a restart\n", key)
			}
			if len(d.Changes)+len(d.Restart) == 0 {
				fmt.Fprintln(a.stdout, "nothing changes")
			}
			return nil
		}),
	}
}
