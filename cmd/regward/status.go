package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/regward/regward/configs"
	"github.com/regward/regward/fleet"
)

// How much status tells of limits: those that are nearly used up.
const (
	nearEnd      = 0.8 // of the bucket
	nearEndShown = 10
)

// status is the answer of GET /api/v1/status: of the instance that was asked,
// and what it knows of the others.
type status struct {
	Version      string                       `json:"version"` // of regward
	Config       string                       `json:"config"`
	ConfigFile   string                       `json:"config_file"`
	Loaded       time.Time                    `json:"loaded"`
	Started      time.Time                    `json:"started"`
	Draining     bool                         `json:"draining"`
	Upstreams    []upstreamStatus             `json:"upstreams"`
	Certificates map[string]certificateStatus `json:"certificates,omitempty"` // by name
	Redis        *redisStatus                 `json:"redis,omitempty"`        // absent without Redis
	Shared       fleet.State                  `json:"shared"`
	Instances    []fleet.Instance             `json:"instances"`                 // all that are known, this one among them
	InstancesErr string                       `json:"instances_error,omitempty"` // why there may be more
	Overrides    []fleet.Override             `json:"overrides"`
	NearEnd      []nearEndStatus              `json:"limits_near_their_end"`
	NearEndError string                       `json:"limits_error,omitempty"` // why there may be more
	Dropped      map[string]uint64            `json:"log_lines_dropped,omitempty"`
}

// redisStatus is how it stands with Redis.
type redisStatus struct {
	OK      bool      `json:"ok"`
	Wrong   string    `json:"wrong,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	OnError string    `json:"on_error"`
}

// nearEndStatus is a bucket with little left.
type nearEndStatus struct {
	Limit string `json:"limit"`
	Count string `json:"count"`
	usageState
}

// upstreamStatus is one upstream in it.
type upstreamStatus struct {
	Name   string        `json:"name"`
	State  string        `json:"state"`            // ok, what is wrong, or unknown while nobody has had an answer
	Budget *budgetStatus `json:"budget,omitempty"` // as the upstream said it last, if it did
}

// budgetStatus is what an upstream gives regward's account or address.
type budgetStatus struct {
	Remaining int    `json:"remaining"`
	Limit     int    `json:"limit,omitempty"`
	Seconds   int    `json:"window_seconds"`
	Source    string `json:"source,omitempty"` // whom the upstream counts
}

func (s *server) upstreamStatus(ctx context.Context) []upstreamStatus {
	list := []upstreamStatus{}
	for _, u := range s.upstreams(ctx) {
		one := upstreamStatus{Name: u.name, State: u.words()}
		if b := u.budget; b != nil {
			one.Budget = &budgetStatus{b.Remaining, b.Limit, int(b.Window.Seconds()), b.Source}
		}
		list = append(list, one)
	}
	return list
}

func (s *server) status(w http.ResponseWriter, r *http.Request) {
	now, f := s.live.Load(), s.shared.fleet.Load()
	answer := status{
		Version: readBuild().Version, Config: now.cfg.Version, ConfigFile: s.src.name(), Loaded: now.at, Started: s.started,
		Draining: s.draining.Load(), Upstreams: s.upstreamStatus(r.Context()), Certificates: s.certs.status(),
		Shared: f.State(), Overrides: f.Overrides(), NearEnd: []nearEndStatus{},
	}
	var err error
	if answer.Instances, err = f.Instances(r.Context()); err != nil {
		_ = f.Beat(r.Context()) // so that Shared tells of it now, not with the next one
		answer.Shared, answer.InstancesErr = f.State(), "what others there are Redis cannot be asked"
		answer.Instances[0].NotShared = answer.Shared.Since
	}
	for i := range answer.Instances {
		answer.Instances[i].Top = nil // that is for top
	}
	if s.shared.client != nil {
		wrong, since := s.redisWrong()
		answer.Redis = &redisStatus{wrong == "", wrong, since, s.first.Redis.OnError}
	}
	usages, err := s.used(r, "", "", now.cfg, nearEndShown)
	if err != nil {
		answer.NearEndError = s.usedWords(err)
	}
	for _, u := range usages {
		if float64(u.Used) >= nearEnd*float64(u.Size) {
			answer.NearEnd = append(answer.NearEnd, nearEndStatus{u.Limit, string(findLimit(now.cfg, u.Limit).Count), s.usageState(u)})
		}
	}
	for log, name := range logNames {
		if n := s.logs.dropped[log].Load(); n > 0 {
			if answer.Dropped == nil {
				answer.Dropped = map[string]uint64{}
			}
			answer.Dropped[name] = n
		}
	}
	writeJSON(w, http.StatusOK, answer)
}

// self is what the other instances know of this one. It asks nobody.
func (s *server) self() fleet.Instance {
	i := fleet.Instance{Host: hostname(), Version: readBuild().Version, Started: s.started, Draining: s.draining.Load(), Notes: map[string]string{}, Top: s.topForOthers()}
	if now := s.live.Load(); now != nil {
		i.Config, i.Loaded = now.cfg.Version, now.at
		i.Address = strings.Join(now.cfg.Listen, ", ")
	}
	for _, u := range s.upstreamsKnown() {
		if words := u.words(); words != "ok" && words != "unknown" {
			i.Notes["upstream "+u.name] = words
		}
	}
	for name, c := range s.certs.status() {
		ends := "ends " + c.Ends.UTC().Format("2006-01-02 15:04 MST")
		switch {
		case c.Ends.IsZero():
			i.Notes["certificate "+name] = "none yet"
		case c.Mode != configs.TLSACME && c.Ends.Sub(s.now()) < certificateSoon:
			i.Notes["certificate "+name] = ends
		case c.Problem != "":
			i.Notes["certificate "+name] = ends + ", and could not be renewed"
		}
	}
	if s.shared.breaker != nil {
		if o, down := s.shared.breaker.Outage(); down {
			i.Notes["redis"] = "cannot be asked about limits since " + o.Since.UTC().Format("15:04 MST")
		}
	}
	for log, name := range logNames {
		if n := s.logs.dropped[log].Load(); n > 0 {
			i.Notes[name+" log"] = plural(int(n), "line") + " dropped"
		}
	}
	return i
}

// certificateSoon is when the end of a certificate is news for the others.
const certificateSoon = 30 * 24 * time.Hour

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Tell how all instances are: configuration, what is not shared, certificates, upstreams, Redis, limits near their end",
		Args:  nothingBut("status: takes no %q"),
		RunE: do(func(ctx context.Context, _ []string) error {
			client, err := a.adminClient()
			if err != nil {
				return err
			}
			var answer status
			if err := client.call(ctx, http.MethodGet, "/api/v1/status", nil, &answer); err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(answer)
			}
			answer.print(a.stdout, time.Now())
			return nil
		}),
	}
}

// print tells it in words, the instances first.
func (st *status) print(w io.Writer, now time.Time) {
	configs := map[string]bool{}
	for _, i := range st.Instances {
		configs[i.Config] = true
	}
	fmt.Fprint(w, plural(len(st.Instances), "instance"))
	if len(configs) > 1 {
		fmt.Fprintf(w, ", with %d different configurations", len(configs))
	}
	if st.InstancesErr != "" {
		fmt.Fprint(w, "; "+st.InstancesErr)
	}
	fmt.Fprintln(w)
	t := newTable(w)
	for n, name := range instanceNames(st.Instances) {
		i := &st.Instances[n]
		t.row(name+map[bool]string{true: " (asked)"}[i.Self], "regward "+i.Version, "config "+i.Config, "loaded "+clock(i.Loaded)+" ("+ago(now.Sub(i.Loaded))+")", instanceWords(i))
	}
	t.flush()
	st.printShared(w)
	for _, u := range st.Upstreams {
		line := "upstream " + u.Name + ": " + u.State
		if u.Budget != nil {
			line += fmt.Sprintf(", %d pulls left of %d", u.Budget.Remaining, u.Budget.Limit)
		}
		fmt.Fprintln(w, harmless(line))
	}
	for _, name := range slices.Sorted(maps.Keys(st.Certificates)) {
		fmt.Fprintln(w, st.Certificates[name].words(name, now))
	}
	for _, name := range slices.Sorted(maps.Keys(st.Dropped)) {
		fmt.Fprintf(w, "%s log: %s dropped since the start: it is written too slowly, or not at all\n", name, plural(int(st.Dropped[name]), "line"))
	}
	for _, o := range st.Overrides {
		fmt.Fprintln(w, overrideLine(o.Limit, newOverrideState(o)))
	}
	if len(st.NearEnd) == 0 {
		fmt.Fprintln(w, "no limit is near its end")
	} else {
		fmt.Fprintln(w, "limits near their end:")
		t := newTable(w)
		for _, u := range st.NearEnd {
			t.row(append([]string{"  " + u.Limit}, u.cells(u.Count, now)...)...)
		}
		t.flush()
	}
	if st.NearEndError != "" {
		fmt.Fprintln(w, "  "+st.NearEndError)
	}
}

// printShared tells of Redis, and of what does not reach the others.
func (st *status) printShared(w io.Writer) {
	switch {
	case st.Shared.Alone:
		fmt.Fprintln(w, "redis: none, this instance shares with no other")
	case st.Redis != nil && !st.Redis.OK:
		fmt.Fprintf(w, "redis: %s; since %s UTC\n", st.Redis.Wrong, clock(st.Redis.Since))
	default:
		fmt.Fprintln(w, "redis: ok")
	}
	if !st.Shared.Sharing() {
		fmt.Fprintf(w, "revocations not shared since %s UTC: %s\n", clock(st.Shared.Since), st.Shared.Error)
	}
	if st.Shared.Unsent > 0 {
		fmt.Fprintf(w, "%s made here that no other instance knows of yet\n", plural(st.Shared.Unsent, "change"))
	}
	if c := st.Shared.Cut; c != nil && st.Shared.Sharing() {
		fmt.Fprintln(w, "shared again: "+c.String())
	}
}

// instanceNames are what instances are called: by their host, and where that is
// several ones' by the addresses that they listen on, too.
func instanceNames(list []fleet.Instance) []string {
	hosts, names := map[string]int{}, make([]string, len(list))
	for i := range list {
		hosts[list[i].Host]++
	}
	for i := range list {
		names[i] = list[i].Host
		if hosts[names[i]] > 1 && list[i].Address != "" {
			names[i] += " " + list[i].Address
		}
	}
	return names
}

// silence is for how long an instance may say nothing before it is told of.
const silence = 2 * fleet.DefaultEvery

// instanceWords is what is not well with an instance.
func instanceWords(i *fleet.Instance) string {
	var parts []string
	if i.Seen > silence {
		parts = append(parts, "last heard "+ago(i.Seen))
	}
	if i.Draining {
		parts = append(parts, "draining")
	}
	if !i.NotShared.IsZero() {
		parts = append(parts, "not shared since "+clock(i.NotShared))
	}
	if i.Clock.Abs() > time.Second {
		parts = append(parts, "clock off by "+i.Clock.Round(time.Second).String())
	}
	if !i.Self {
		for _, name := range slices.Sorted(maps.Keys(i.Notes)) {
			parts = append(parts, name+": "+i.Notes[name])
		}
	}
	return cmp.Or(strings.Join(parts, "; "), "ok")
}

// overrideLine is one override in a sentence.
func overrideLine(limit string, o *overrideState) string {
	what := o.Rate
	if o.DryRun {
		what = joinWords(what, "dry run")
	}
	line := fmt.Sprintf("override of %s: %s until %s UTC", overrideWords(limit), what, clock(o.Until))
	if limit == "" {
		line += ", failed_logins apart"
	}
	if o.By != "" {
		line += ", by " + o.By
	}
	return line
}

// cells are the columns of a bucket of a limit that counts so: whose, how much,
// until when.
func (u *usageState) cells(count string, now time.Time) []string {
	cells := []string{u.Client, fmt.Sprintf("%d of %d used", u.Used, u.Size)}
	if count == string(configs.CountBytes) {
		cells[1] = sizeWords(u.Used) + " of " + sizeWords(u.Size) + " used"
	}
	switch {
	case !u.Next.IsZero():
		cells = append(cells, "next at "+clock(u.Next)+" ("+until(u.Next.Sub(now))+")")
	default:
		cells = append(cells, "")
	}
	if !u.Full.IsZero() {
		cells = append(cells, "all back at "+clock(u.Full)+" ("+until(u.Full.Sub(now))+")")
	}
	return cells
}

// sizeWords is a number of bytes, to a tenth where there is one: 22.8 MB, 20 MB.
func sizeWords(n int) string { return strings.Replace(bytesWords(int64(n)), ".0 ", " ", 1) }

// table is columns of text, as wide as they need to be.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer) table { return table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

// row writes cells, which may hold what others typed.
func (t table) row(cells ...string) {
	for i, c := range cells {
		cells[i] = harmless(c)
	}
	fmt.Fprintln(t.w, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
}

func (t table) flush() { _ = t.w.Flush() }

// ago is how long something is past, as people say it.
func ago(d time.Duration) string { return spell(d) + " ago" }

// until is how far something is ahead.
func until(d time.Duration) string {
	if d <= 0 {
		return "over"
	}
	return "in " + spell(d)
}

// spell is a duration in the two largest units that it has: 4m 10s, 9d 2h.
func spell(d time.Duration) string {
	secs := int64(math.Ceil(max(0, d.Seconds())))
	var parts []string
	for _, u := range []struct {
		secs int64
		name string
	}{{86400, "d"}, {3600, "h"}, {60, "m"}, {1, "s"}} {
		if n := secs / u.secs; n > 0 || len(parts) > 0 {
			if n > 0 {
				parts = append(parts, fmt.Sprintf("%d%s", n, u.name))
			}
			secs -= n * u.secs
			if len(parts) == 2 || n == 0 {
				break
			}
		}
	}
	return cmp.Or(strings.Join(parts, " "), "0s")
}
