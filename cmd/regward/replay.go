package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regward/regward/configs"
	"github.com/regward/regward/proxy"
	"github.com/regward/regward/replay"
)

// rerun is the command line of replay.
type rerun struct {
	suggest  bool
	share    string
	format   string
	userFrom string
	since    string
	until    string
}

func (a *app) replayCommand() *cobra.Command {
	var r rerun
	c := &cobra.Command{
		Use:   "replay LOG...",
		Short: "Try a configuration on access logs: who would have been throttled or denied",
		Long: `Try a configuration on access logs: who would have been throttled or denied.

  regward replay access.log --config candidate.yaml               what its rules and limits would have done
  regward replay access.log* r2/* r3/* --config candidate.yaml    of three replicas, rotated and gzipped: merged by time
  kubectl logs deploy/regward | regward replay - --config ...     stdin
  regward replay access.log --config candidate.yaml --suggest     and the lowest rates that throttle nobody

Logs of regward, of nginx (combined) and of distribution are read, each known by
its first lines. Nothing is changed, and nobody is asked.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError("replay: which log? as in: regward replay access.log --config candidate.yaml")
			}
			return nil
		},
		RunE: do(func(ctx context.Context, args []string) error { return a.replay(ctx, args, r) }),
	}
	f := c.Flags()
	f.BoolVar(&r.suggest, "suggest", false, "name the lowest rate of each limit that would have throttled nobody")
	f.StringVar(&r.share, "share", "0%", "with --suggest: the `SHARE` of a limit's clients that may be throttled, such as 1%")
	f.StringVar(&r.format, "format", "", "the `FORMAT` of the logs: regward, nginx or distribution; else each by its first lines")
	f.StringVar(&r.userFrom, "user-from", "", "where a log has the user: the number of a `FIELD` in nginx' log (the address is 1, the first one added 10), a member's name in distribution's")
	f.StringVar(&r.since, "since", "", "from `TIME` on: 2026-11-20, \"2026-11-20 09:00\" (UTC), or how long ago: 24h")
	f.StringVar(&r.until, "until", "", "before `TIME`")
	return c
}

func (a *app) replay(ctx context.Context, files []string, r rerun) error {
	o, share, err := a.replayOptions(r)
	if err != nil {
		return usageError("replay: " + err.Error())
	}
	src, err := a.source("")
	if err != nil {
		return err
	}
	cfg, err := src.load(true)
	if err != nil {
		return err
	}
	candidate := *cfg
	candidate.Auth.Htpasswd = "" // nobody logs in here
	settings, err := build(&candidate, nil, nil)
	if err != nil {
		return err
	}
	rehearsal, err := proxy.Rehearse(settings)
	if err != nil {
		return err
	}
	t := newTally(&settings, r.suggest)
	t.now = time.Now()
	// Most of what is read is garbage soon: looking for it less often is a third
	// of the time.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	bar := newProgress(a.stderr)
	o.Progress = bar.show
	var past proxy.Past
	t.logs, err = replay.Read(ctx, files, o, func(e *replay.Entry) error {
		toPast(e, &past)
		t.count(&past, rehearsal.Judge(&past))
		return nil
	})
	bar.end()
	if errors.Is(err, replay.ErrTwice) {
		return usageError("replay: " + err.Error())
	}
	if err != nil {
		return err
	}
	t.overflowed = rehearsal.Overflowed()
	report := t.report(src.name(), share)
	if a.json() {
		return a.printJSON(report)
	}
	return report.print(a.stdout)
}

// replayOptions reads the flags; errors are wrong use.
func (a *app) replayOptions(r rerun) (o replay.Options, share float64, err error) {
	o = replay.Options{UserFrom: r.userFrom, Stdin: a.stdin}
	if o.Format, err = replay.ParseFormat(r.format); err != nil {
		return o, 0, fmt.Errorf("--format: %w", err)
	}
	if share, err = parseShare(r.share); err != nil {
		return o, 0, fmt.Errorf("--share: %w", err)
	}
	if share > 0 && !r.suggest {
		return o, 0, errors.New("--share goes with --suggest")
	}
	if o.Since, err = parseMoment(r.since, time.Now()); err != nil {
		return o, 0, fmt.Errorf("--since: %w", err)
	}
	if o.Until, err = parseMoment(r.until, time.Now()); err != nil {
		return o, 0, fmt.Errorf("--until: %w", err)
	}
	return o, share, nil
}

// parseShare reads "1%" or "0.01".
func parseShare(s string) (float64, error) {
	number, percent := strings.CutSuffix(s, "%")
	share, err := strconv.ParseFloat(number, 64)
	if percent {
		share /= 100
	}
	if err != nil || !(share >= 0 && share < 1) {
		return 0, fmt.Errorf("%q is no share: write one such as 1%%", s)
	}
	return share, nil
}

// parseMoment reads a time, or how long before now; "" is no time.
func parseMoment(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	d, err := configs.ParseDuration(s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no time: write 2026-11-20, \"2026-11-20 09:00\" or 24h", s)
	}
	return now.Add(-time.Duration(d)), nil
}

// toPast is a line of a log as the gate judges it.
func toPast(e *replay.Entry, p *proxy.Past) {
	*p = proxy.Past{
		Time: e.Time, Host: e.Host, Method: e.Method, Path: e.Path, Status: e.Status, Addr: e.Addr,
		User: e.User, KnowUser: e.UserKnown, Via: e.Via,
		Duration: e.Duration, Slowed: e.Slowed, In: e.BytesIn, Out: e.BytesOut,
		Own: e.Own, Credential: e.Credential, Route: e.Route, Repository: e.Repository, Reference: e.Reference, Reason: e.Reason,
		KnowFree: e.FreePull != replay.Unsaid, Free: e.FreePull == replay.Yes, Repeated: e.Repeated,
	}
}
