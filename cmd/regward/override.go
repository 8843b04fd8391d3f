package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/regward/regward/configs"
	"github.com/regward/regward/fleet"
	"github.com/regward/regward/ratelimit"
)

// overrideAsked is the body of POST /api/v1/limits/override.
type overrideAsked struct {
	Limit  string `json:"limit,omitempty"`
	All    bool   `json:"all,omitempty"` // every limit, in place of Limit
	Rate   string `json:"rate,omitempty"`
	DryRun bool   `json:"dry_run,omitempty"`
	For    string `json:"for"` // 2h
	By     string `json:"by,omitempty"`
}

// overrideAnswer is what was set, or ended.
type overrideAnswer struct {
	done
	Limit  string    `json:"limit"` // "" is all
	Rate   string    `json:"rate,omitempty"`
	DryRun bool      `json:"dry_run,omitempty"`
	Until  time.Time `json:"until,omitzero"`
	Note   string    `json:"note,omitempty"` // what becomes of lock-outs
}

// overrideNote says what becomes of those who guess passwords, "" if nothing was
// to be thought of.
func overrideNote(cfg *configs.Config, o fleet.Override) string {
	var spared []string
	for i := range cfg.Limits {
		l := &cfg.Limits[i]
		switch {
		case l.Count != configs.CountFailedLogins:
		case o.Limit == l.Name && !o.DryRun:
			if wider, err := ratelimit.ParseRate(o.Rate); err == nil && wider.Per > 0 && wider.Events*int(l.Rate.Per/time.Second) > l.Rate.Events*int(wider.Per/time.Second) {
				return "warning: passwords may be guessed at " + o.Rate + " meanwhile before limit " + strconv.Quote(l.Name) + " locks anybody out"
			}
		case o.Limit == l.Name:
			return "warning: limit " + strconv.Quote(l.Name) + " locks nobody out meanwhile, however many passwords somebody guesses"
		case o.Limit == "" && o.DryRun:
			spared = append(spared, strconv.Quote(l.Name))
		}
	}
	if len(spared) == 0 {
		return ""
	}
	return "wrong passwords lock out as before: limits of failed_logins are not among all (" + strings.Join(spared, ", ") + ")"
}

// overrides answers GET /api/v1/limits/override: those in force.
func (s *server) overrides(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"overrides": s.shared.fleet.Load().Overrides()})
}

// overridesNow are those in force, by limit; "" is all.
func (s *server) overridesNow() map[string]fleet.Override {
	now := map[string]fleet.Override{}
	if f := s.shared.fleet.Load(); f != nil {
		for _, o := range f.Overrides() {
			now[o.Limit] = o
		}
	}
	return now
}

// setOverride changes a limit for a while, on all instances.
func (s *server) setOverride(w http.ResponseWriter, r *http.Request) {
	var q overrideAsked
	if !readJSON(w, r, &q) {
		return
	}
	o, status, err := q.check(s.live.Load().cfg)
	if err != nil {
		plain(w, status, err.Error())
		return
	}
	length, err := overrideLength(q.For)
	if err != nil {
		plain(w, http.StatusBadRequest, "for: "+err.Error())
		return
	}
	o.At = s.now()
	o.Until = o.At.Add(length)
	err = s.shared.fleet.Load().Override(r.Context(), o)
	if err != nil && !errors.Is(err, fleet.ErrNotShared) {
		plain(w, http.StatusBadRequest, err.Error())
		return
	}
	s.auditOverride(o, false, err)
	writeJSON(w, http.StatusOK, overrideAnswer{done: doneOr(err), Limit: o.Limit, Rate: o.Rate, DryRun: o.DryRun, Until: o.Until.UTC(), Note: overrideNote(s.live.Load().cfg, o)})
}

// overrideLength reads for how long.
func overrideLength(text string) (time.Duration, error) {
	d, err := configs.ParseDuration(text)
	length := time.Duration(d)
	const as = "; write as in 2h, 90m or 7d"
	switch {
	case err != nil:
		return 0, errors.New(err.Error() + as)
	case length <= 0:
		return 0, fmt.Errorf("%q is over at once%s", text, as)
	case length > fleet.MaxOverrideFor:
		return 0, fmt.Errorf("%q is longer than %v: change the configuration", text, configs.Duration(fleet.MaxOverrideFor))
	}
	return length, nil
}

// check looks at everything but the time.
func (q *overrideAsked) check(cfg *configs.Config) (o fleet.Override, status int, err error) {
	o = fleet.Override{Limit: q.Limit, DryRun: q.DryRun, By: q.By}
	switch {
	case q.All == (q.Limit != ""):
		return o, http.StatusBadRequest, errors.New("limit: the name of one, or all: true")
	case q.Rate == "" && !q.DryRun:
		return o, http.StatusBadRequest, errors.New("rate or dry_run: what shall change?")
	case q.All && q.Rate != "":
		return o, http.StatusBadRequest, errors.New("rate: one rate does not fit all limits; all goes with dry_run")
	case q.All:
		return o, http.StatusOK, nil
	}
	l := findLimit(cfg, q.Limit)
	if l == nil {
		return o, http.StatusNotFound, errors.New(noSuchLimit(cfg, q.Limit))
	}
	if q.Rate != "" {
		a, err := readAmount(l.Count, q.Rate)
		if err != nil {
			return o, http.StatusBadRequest, fmt.Errorf("rate: %w", err)
		}
		o.Rate = a.text
	}
	return o, http.StatusOK, nil
}

// amount is a rate, or a number of transfers.
type amount struct {
	rate ratelimit.Rate
	most int
	text string // the shortest way to write it
}

// readAmount reads what a limit of that count may be given.
func readAmount(count configs.Count, text string) (a amount, err error) {
	switch count {
	case configs.CountBytes:
		a.rate, err = ratelimit.ParseByteRate(text)
		a.text = a.rate.ByteString()
	case configs.CountTransfers:
		a.most, err = strconv.Atoi(text)
		if err != nil || a.most < 1 || a.most > 1_000_000 {
			return a, fmt.Errorf("%q is no number of transfers: write how many may run at once, as in 8", text)
		}
		a.text = strconv.Itoa(a.most)
	default:
		a.rate, err = ratelimit.ParseRate(text)
		a.text = a.rate.String()
	}
	return a, err
}

// endOverride answers DELETE /api/v1/limits/override?limit=NAME, or ?all=true.
func (s *server) endOverride(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	limit, all := query.Get("limit"), query.Get("all") == "true"
	if all == (limit != "") {
		plain(w, http.StatusBadRequest, "limit: the name of one, or all=true")
		return
	}
	o, ok := s.overridesNow()[limit]
	switch cfg := s.live.Load().cfg; {
	case ok: // also of a limit that has gone from the file
	case !all && findLimit(cfg, limit) == nil:
		plain(w, http.StatusNotFound, noSuchLimit(cfg, limit))
		return
	default:
		plain(w, http.StatusNotFound, "there is no override of "+overrideWords(limit)+"; regward status lists those in force")
		return
	}
	err := s.shared.fleet.Load().ClearOverride(r.Context(), limit)
	if err != nil && !errors.Is(err, fleet.ErrNotShared) {
		plain(w, http.StatusBadRequest, err.Error())
		return
	}
	o.By = query.Get("by")
	s.auditOverride(o, true, err)
	writeJSON(w, http.StatusOK, overrideAnswer{done: doneOr(err), Limit: limit})
}

// doneOr is what is told of a change that may not be shared yet.
func doneOr(err error) done {
	if err != nil {
		_, why, _ := strings.Cut(err.Error(), fleet.ErrNotShared.Error())
		return done{OK: true, NotShared: "it " + fleet.ErrNotShared.Error() + why + "; they are told when Redis is back"}
	}
	return done{OK: true}
}

func (s *server) auditOverride(o fleet.Override, ended bool, err error) {
	f := []zap.Field{zap.String("limit", allWord(o.Limit))}
	if o.Rate != "" {
		f = append(f, zap.String("rate", o.Rate))
	}
	if o.DryRun {
		f = append(f, zap.Bool("dry_run", true))
	}
	if ended {
		f = append(f, zap.Bool("ended", true))
	} else {
		f = append(f, zap.Time("until", o.Until.UTC()))
	}
	f = append(f, zap.String("by", o.By), zap.Bool("shared", err == nil))
	s.handler.Audit.Write("override", f...)
}

// allWord names a limit, or all of them.
func allWord(limit string) string {
	if limit == "" {
		return "all"
	}
	return limit
}

// overrideWords names what is overridden in a sentence.
func overrideWords(limit string) string {
	if limit == "" {
		return "all limits"
	}
	return "limit " + strconv.Quote(limit)
}

// overrideFlags are those of limits override.
type overrideFlags struct {
	all, dryRun, end bool
	rate, length     string
}

func (a *app) overrideCommand() *cobra.Command {
	var f overrideFlags
	c := &cobra.Command{
		Use:   "override NAME|--all --rate R|--dry-run --for 2h | --end",
		Short: "Ease or tighten a limit for a while, on all instances; it ends by itself",
		Long: fmt.Sprintf(`Ease or tighten a limit for a while, on all instances; it ends by itself.

  regward limits override ci --rate 200/s --for 2h     more for a while: what is spent fills faster
  regward limits override ci --dry-run --for 2h        count what would be refused, refuse nothing
  regward limits override --all --dry-run --for 30m    the same for all limits
  regward limits override ci --end                     enough: as configured again

A rate is written as in the file: 1000/6h, for a limit of bytes 20MB/s, for one of transfers
8. %v is the longest. It outlives reloads and restarts; status and limits show tell of it.`, configs.Duration(fleet.MaxOverrideFor)),
	}
	c.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usageError("limits override: one limit at a time, or --all")
		}
		return nil
	}
	c.Flags().BoolVar(&f.all, "all", false, "all limits at once but those of failed_logins, with --dry-run or --end")
	c.Flags().StringVar(&f.rate, "rate", "", "`RATE` in place of the configured one, as in 200/s")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "count what would be refused, refuse nothing")
	c.Flags().StringVar(&f.length, "for", "", "how `LONG`, as in 2h")
	c.Flags().BoolVar(&f.end, "end", false, "end the override now")
	c.RunE = do(func(ctx context.Context, args []string) error {
		limit := ""
		if len(args) > 0 {
			limit = args[0]
		}
		switch {
		case f.all == (limit != ""):
			return usageError("limits override: name a limit, or --all")
		case f.end && (f.rate != "" || f.dryRun || f.length != ""):
			return usageError("limits override: --end goes with nothing else")
		case !f.end && f.rate == "" && !f.dryRun:
			return usageError("limits override: what shall change? --rate or --dry-run")
		case !f.end && f.length == "":
			return usageError("limits override: for how long? --for 2h")
		case f.all && f.rate != "":
			return usageError("limits override: one rate does not fit all limits; --all goes with --dry-run")
		}
		if !f.end {
			if _, err := overrideLength(f.length); err != nil {
				return usageError("limits override: --for: " + err.Error())
			}
		}
		return a.override(ctx, limit, f)
	})
	return c
}

func (a *app) override(ctx context.Context, limit string, f overrideFlags) error {
	client, err := a.adminClient()
	if err != nil {
		return err
	}
	const target = "/api/v1/limits/override"
	var answer overrideAnswer
	if f.end {
		query := url.Values{"by": {a.operator()}}
		if f.all {
			query.Set("all", "true")
		} else {
			query.Set("limit", limit)
		}
		err = client.call(ctx, http.MethodDelete, target+"?"+query.Encode(), nil, &answer)
	} else {
		err = client.call(ctx, http.MethodPost, target,
			overrideAsked{Limit: limit, All: f.all, Rate: f.rate, DryRun: f.dryRun, For: f.length, By: a.operator()}, &answer)
	}
	if err != nil {
		return err
	}
	if a.json() {
		err = a.printJSON(answer)
	} else if f.end {
		fmt.Fprintf(a.stdout, "the override of %s has ended: what the configuration says holds again\n", overrideWords(limit))
	} else {
		what := answer.Rate
		if f.dryRun {
			what = joinWords(what, "dry run")
		}
		fmt.Fprintf(a.stdout, "%s: %s until %s UTC (%s); then what the configuration says\n", overrideWords(limit), what, clock(answer.Until), f.length)
		if answer.Note != "" {
			fmt.Fprintln(a.stdout, answer.Note)
		}
	}
	return a.notShared(answer.NotShared, err)
}

// notShared says that something holds on one instance only for now, and makes
// the command fail for it.
func (a *app) notShared(why string, err error) error {
	if why == "" || err != nil {
		return err
	}
	return errors.New(why)
}

// operator names who types, for the audit log. Nothing proves it.
func (a *app) operator() string {
	for _, name := range []string{"SUDO_USER", "USER", "LOGNAME"} {
		if who := a.getenv(name); who != "" {
			return who + "@" + hostname()
		}
	}
	return "regward@" + hostname()
}

// overridesTold are the overrides of the running instance, by limit; "" is all.
type overridesTold map[string]*overrideState

// overridden asks the running instance, if there is one that answers at once,
// what is overridden there. What is explained without one is the file.
func (a *app) overridden(ctx context.Context, wanted bool) overridesTold {
	client, err := a.adminClient()
	if err != nil || !wanted {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var answer struct {
		Overrides []fleet.Override `json:"overrides"`
	}
	if client.call(ctx, http.MethodGet, "/api/v1/limits/override", nil, &answer) != nil {
		return nil
	}
	told := overridesTold{}
	for _, o := range answer.Overrides {
		told[o.Limit] = newOverrideState(o)
	}
	return told
}

// words are ", overridden: 200/s until 12:00 UTC", "" if the limit, which is none
// of failed logins, is as configured.
func (o overridesTold) words(limit string) (words string) {
	for _, name := range []string{"", limit} {
		if one := o[name]; one != nil {
			what := one.Rate
			if one.DryRun {
				what = joinWords(what, "dry run")
			}
			words += ", overridden: " + what + " until " + clock(one.Until) + " UTC"
		}
	}
	return words
}

// joinWords puts a comma between what is not empty.
func joinWords(one, two string) string {
	if one == "" || two == "" {
		return one + two
	}
	return one + ", " + two
}
