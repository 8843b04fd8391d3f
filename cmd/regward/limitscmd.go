package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/regward/regward/configs"
	"github.com/regward/regward/ratelimit"
)

func (a *app) limitsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "limits",
		Short: "Show what is used up of the limits, give it back, or change a limit for a while",
		Args:  cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError(fmt.Sprintf("limits: there is no %q; choose show, reset or override", args[0]))
			}
			return usageError("limits: choose show, reset or override")
		},
	}
	c.AddCommand(a.limitsShowCommand(), a.limitsResetCommand(), a.overrideCommand())
	return c
}

func (a *app) limitsShowCommand() *cobra.Command {
	var user, limit string
	most := 20
	c := &cobra.Command{
		Use:   "show",
		Short: "Show what is used up of which limit, by whom, until when",
		Args:  nothingBut("limits show: --limit %s?"),
	}
	c.Flags().StringVar(&user, "user", "", "only what this user takes from: a `NAME`")
	c.Flags().StringVar(&limit, "limit", "", "only this limit: a `NAME`")
	c.Flags().IntVar(&most, "most", most, "show at most `N` clients, the fullest first")
	c.RunE = do(func(ctx context.Context, _ []string) error {
		if most < 1 || most > mostUsages {
			return usageError(fmt.Sprintf("limits show: --most is a number from 1 to %d", mostUsages))
		}
		client, err := a.adminClient()
		if err != nil {
			return err
		}
		query := url.Values{"most": {strconv.Itoa(most)}}
		if user != "" {
			query.Set("user", user)
		}
		if limit != "" {
			query.Set("limit", limit)
		}
		var answer limitsAnswer
		if err := client.call(ctx, http.MethodGet, "/api/v1/limits?"+query.Encode(), nil, &answer); err != nil {
			return err
		}
		if a.json() {
			return a.printJSON(answer)
		}
		answer.print(a.stdout, time.Now())
		return nil
	})
	return c
}

// nothingBut refuses what stands beside the flags, and says what was probably
// meant by it.
func nothingBut(meant string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError(fmt.Sprintf(meant, args[0]))
		}
		return nil
	}
}

// print is a paragraph for each limit.
func (l *limitsAnswer) print(w io.Writer, now time.Time) {
	if l.Override != nil {
		fmt.Fprintln(w, overrideLine("", l.Override))
	}
	for i := range l.Limits {
		one := &l.Limits[i]
		rate := one.Rate
		if one.Burst != "" {
			rate += " burst " + one.Burst
		}
		what := one.Count
		if what == string(configs.CountTransfers) {
			what += " at once"
		}
		line := fmt.Sprintf("%s: %s %s per %s", one.Name, rate, what, one.Per)
		if one.DryRun {
			line += ", dry run"
		}
		if one.Where != "" {
			line += " (" + one.Where + ")"
		}
		fmt.Fprintln(w, line)
		if one.Override != nil {
			fmt.Fprintln(w, "  "+overrideLine(one.Name, one.Override))
		}
		if len(one.Used) == 0 {
			fmt.Fprintln(w, "  nothing is used up")
			continue
		}
		t := newTable(w)
		for _, u := range one.Used {
			cells := u.cells(one.Count, now)
			cells[0] = "  " + cells[0]
			t.row(cells...)
		}
		t.flush()
		if slices.ContainsFunc(one.Used, func(u usageState) bool { return u.Client == ratelimit.Shared }) {
			fmt.Fprintf(w, "  %s are all who came when the %d clients that can be told apart were there already\n", ratelimit.Shared, limitKeys)
		}
	}
	if l.Incomplete != "" {
		fmt.Fprintln(w, l.Incomplete)
	}
	if !l.Together {
		fmt.Fprintln(w, "counted by this instance alone: there is no redis")
	}
}

func (a *app) limitsResetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reset NAME KEY",
		Short: "Give one client back what it has used up of a limit, on all instances",
		Long: `Give one client back what it has used up of a limit, on all instances.

  regward limits show --limit people             who has used up how much
  regward limits reset people user:ci-release    KEY is as limits show names it, ip:192.0.2.7 too`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usageError("limits reset: of which limit, and whose? as in: regward limits reset people user:ann")
			}
			return nil
		},
		RunE: do(func(ctx context.Context, args []string) error {
			client, err := a.adminClient()
			if err != nil {
				return err
			}
			var answer done
			asked := resetAsked{Limit: args[0], Client: args[1], By: a.operator()}
			if err := client.call(ctx, http.MethodPost, "/api/v1/limits/reset", asked, &answer); err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(answer)
			}
			_, err = fmt.Fprintf(a.stdout, "limit %q: %s has all of it again\n", args[0], args[1])
			return err
		}),
	}
}
