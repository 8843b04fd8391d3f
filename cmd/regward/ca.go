package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/regward/regward/configs"
	regtls "github.com/regward/regward/tls"
)

func (a *app) caCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ca",
		Short: "Print the CA of tls.mode internal, for clients to trust; made on first use",
		Args:  nothingBut("ca: takes no %q"),
		RunE: do(func(context.Context, []string) error {
			src, err := a.source("")
			if err != nil {
				return err
			}
			cfg, err := src.load(true)
			if err != nil {
				return err
			}
			if cfg.TLS.Mode != configs.TLSInternal {
				return fmt.Errorf("tls.mode is %s in %s: only internal has a CA of its own", cfg.TLS.Mode, src.name())
			}
			if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
				return fmt.Errorf("state_dir: %w", err)
			}
			source, err := regtls.Internal(cfg.StateDir, bareHosts(cfg.Hostname)...)
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(map[string]string{"ca": string(source.CA())})
			}
			_, err = a.stdout.Write(source.CA())
			return err
		}),
	}
}
