package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// buildInfo is what the linker knows about this binary.
type buildInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Dirty   bool   `json:"dirty,omitempty"`
	Go      string `json:"go"`
	Target  string `json:"target"`
}

func readBuild() buildInfo {
	b := buildInfo{Version: "devel", Go: runtime.Version(), Target: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Dirty = s.Value == "true"
		}
	}
	return b
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, commit and Go version",
		Args:  nothingBut("version: takes no %q"),
		RunE: do(func(context.Context, []string) error {
			b := readBuild()
			if a.json() {
				return a.printJSON(b)
			}
			fmt.Fprintf(a.stdout, "regward %s\n", b.Version)
			if b.Commit != "" {
				dirty := ""
				if b.Dirty {
					dirty = " (changed)"
				}
				fmt.Fprintf(a.stdout, "commit  %s%s\n", b.Commit, dirty)
			}
			fmt.Fprintf(a.stdout, "go      %s %s\n", b.Go, b.Target)
			return nil
		}),
	}
}
