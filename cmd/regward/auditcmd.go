package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
	"github.com/regward/regward/replay"
)

// maxAuditFiles are open at once, each with a buffer of a line.
const maxAuditFiles = 1000

// deed is a line of the audit log, as far as audit tells of it.
type deed struct {
	Time       time.Time `json:"time"`
	Event      string    `json:"event"`
	User       string    `json:"user"`
	Credential string    `json:"credential,omitempty"`
	Addr       string    `json:"addr,omitempty"`
	Host       string    `json:"host,omitempty"`
	Via        string    `json:"via,omitempty"`
	Repository string    `json:"repository,omitempty"`
	Reference  string    `json:"reference,omitempty"`
	Tag        string    `json:"tag,omitempty"`
	Digest     string    `json:"digest,omitempty"`
	Limit      string    `json:"limit,omitempty"`
	Rate       string    `json:"rate,omitempty"` // of an override, and the next three
	DryRun     bool      `json:"dry_run,omitempty"`
	Until      time.Time `json:"until,omitzero"`
	Ended      bool      `json:"ended,omitempty"`
	Shared     *bool     `json:"shared,omitempty"` // false: the other instances were not told at once
	Decision   string    `json:"decision,omitempty"`
	Reason     string    `json:"reason,omitempty"`    // of a failed login
	Client     string    `json:"client,omitempty"`    // of a reset
	Everybody  bool      `json:"everybody,omitempty"` // of a revocation: not of one user
	By         string    `json:"by,omitempty"`        // who overrode, reset, revoked or had it loaded
	Trigger    string    `json:"trigger,omitempty"`   // of a reload
	Changes    []string  `json:"changes,omitempty"`
	UserAgent  string    `json:"user_agent,omitempty"`
	RequestID  string    `json:"request_id,omitempty"`

	Msg string `json:"msg,omitempty"` // the event, in the log
}

// auditQuestion is which deeds are asked for.
type auditQuestion struct {
	repository   auth.Pattern
	any          bool // whatever the repository
	user         string
	events       []string
	since, until time.Time
}

// chooses reports whether d is asked for.
func (q *auditQuestion) chooses(d *deed) bool {
	return slices.Contains(q.events, d.Event) &&
		(q.any || d.Repository != "" && q.means(d)) &&
		(q.user == "" || strings.EqualFold(q.user, d.User)) &&
		(q.since.IsZero() || !d.Time.Before(q.since)) &&
		(q.until.IsZero() || d.Time.Before(q.until))
}

// means reports whether the pattern is about what d was done to, as a rule would
// mean it: a pattern that begins with a hostname is about that one's.
func (q *auditQuestion) means(d *deed) bool {
	want := auth.Access{Repository: d.Repository}
	if d.Host != "" {
		want.Full = d.Host + "/" + d.Repository
	}
	var who auth.Identity
	if d.User != "anonymous" { // as logs call who has no name
		who.Name = d.User
	}
	return q.repository.Means(&want, &who)
}

// parseAuditPattern reads a pattern as rules have it. What docker puts in front
// may have a port, which logs leave out as rules do.
func parseAuditPattern(text string) (auth.Pattern, error) {
	host, name, deeper := strings.Cut(text, "/")
	if plain, port, ok := strings.Cut(host, ":"); ok && deeper && port != "" && strings.Trim(port, "0123456789") == "" {
		text = plain + "/" + name
	}
	p, err := auth.ParsePattern(text)
	if err == nil && strings.Contains(text, "{group}") {
		err = errors.New("a log does not say who was in which group: name the namespace")
	}
	return p, err
}

func (a *app) auditCommand() *cobra.Command {
	var repository, user, since, until string
	events := []string{"pull", "push", "delete"}
	c := &cobra.Command{
		Use:   "audit FILE...",
		Short: "Tell from audit logs who pulled, pushed and deleted what",
		Long:  "FILE is an audit log, gzipped or not; - is stdin. Several are told in the order of time.",
	}
	c.Args = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usageError("audit: which log? as in: regward audit audit.log")
		}
		return nil
	}
	c.Flags().StringVar(&repository, "repository", "", "only of this: a `PATTERN` as in rules, coolteam/app or coolteam/**, with a hostname in front or without")
	c.Flags().StringVar(&user, "user", "", "only what this `USER` did; anonymous is one")
	c.Flags().StringVar(&since, "since", "", "from then on: a `DAY` (2026-10-01), a time (2026-10-01T09:00:00Z), or how long ago (24h, 30d)")
	c.Flags().StringVar(&until, "until", "", "up to then, a `DAY` to its end")
	c.Flags().StringSliceVar(&events, "events", events, "`EVENTS` to tell of, or all")
	c.RunE = do(func(_ context.Context, args []string) error {
		q := auditQuestion{any: repository == "", user: user, events: events}
		now, err := time.Now(), error(nil)
		if q.since, err = parseWhen(since, now, false); err != nil {
			return usageError("audit: --since: " + err.Error())
		}
		if q.until, err = parseWhen(until, now, true); err != nil {
			return usageError("audit: --until: " + err.Error())
		}
		if !q.since.IsZero() && !q.until.IsZero() && !q.since.Before(q.until) {
			return usageError("audit: --until is before --since: there is nothing in between")
		}
		if !q.any {
			if q.repository, err = parseAuditPattern(repository); err != nil {
				return usageError("audit: --repository: " + err.Error())
			}
		}
		known := auditEvents([]string{"logins", "denials", "pulls", "pushes", "deletes", "reloads", "revocations"})
		if slices.Contains(events, "all") {
			q.events = known
		}
		for _, e := range q.events {
			if !slices.Contains(known, e) {
				return usageError(fmt.Sprintf("audit: --events: no event is called %q; there are %s", e, strings.Join(known, ", ")))
			}
		}
		if len(args) > maxAuditFiles {
			return usageError(fmt.Sprintf("audit: more than %d files", maxAuditFiles))
		}
		return a.audit(&q, args)
	})
	return c
}

// parseWhen reads a day, a time, or how long ago; "" is the zero time. With end
// a day means its end.
func parseWhen(text string, now time.Time, end bool) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		if end {
			day = day.AddDate(0, 0, 1)
		}
		return day, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	if d, err := configs.ParseDuration(text); err == nil {
		return now.Add(-time.Duration(d)), nil
	}
	return time.Time{}, fmt.Errorf("%q is no day as 2026-10-01, no time as 2026-10-01T09:00:00Z, and not how long ago as 24h", text)
}

// audit merges the files by time and prints what was asked for as it comes, so
// that memory is bounded by the number of files.
func (a *app) audit(q *auditQuestion, files []string) error {
	var all []*deeds
	defer func() {
		for _, d := range all {
			d.close()
		}
	}()
	for _, name := range files {
		d, err := openDeeds(name, a.stdin)
		if err != nil {
			return err
		}
		all = append(all, d)
		d.advance(q)
	}
	out := bufio.NewWriterSize(a.stdout, 64<<10)
	tell, finish := tellLines(out)
	if a.json() {
		tell, finish = tellJSON(out)
	}
	for {
		first := -1
		for i, d := range all {
			if d.next != nil && (first < 0 || d.next.Time.Before(all[first].next.Time)) {
				first = i
			}
		}
		if first < 0 {
			break
		}
		if err := tell(all[first].next); err != nil {
			return err
		}
		all[first].advance(q)
	}
	var errs []error
	lines := 0
	for _, d := range all {
		lines += d.lines
		if d.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", d.name, d.err))
		}
	}
	if lines > 0 || a.json() {
		if err := finish(); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if lines == 0 && len(errs) == 0 {
		return errors.New("no line of an audit log is in there: is log.audit the file, or off?")
	}
	return errors.Join(errs...)
}

// deeds are the lines of one file.
type deeds struct {
	name    string
	scanner *bufio.Scanner
	close   func()
	next    *deed // nil at the end
	lines   int   // of an audit log
	err     error
}

func openDeeds(name string, stdin io.Reader) (*deeds, error) {
	in, end, err := replay.Open(name, stdin)
	if err != nil {
		return nil, err
	}
	d := &deeds{name: name, close: func() { _ = end() }}
	if name == "-" {
		d.name = "stdin"
	}
	d.scanner = bufio.NewScanner(in)
	d.scanner.Buffer(make([]byte, 0, 4096), maxLogLine)
	return d, nil
}

// advance reads on to the next deed that is asked for. Lines of other logs are
// skipped.
func (d *deeds) advance(q *auditQuestion) {
	d.next = nil
	for d.scanner.Scan() {
		text := d.scanner.Text()
		start := strings.IndexByte(text, '{') // `kubectl logs --prefix` and journals put something in front
		var one deed
		if start < 0 || json.Unmarshal([]byte(text[start:]), &one) != nil || one.Time.IsZero() {
			continue
		}
		one.Event, one.Msg = one.Msg, ""
		if !isAuditEvent(one.Event) {
			continue
		}
		d.lines++
		if q.chooses(&one) {
			d.next = &one
			return
		}
	}
	d.err = d.scanner.Err()
}

func isAuditEvent(event string) bool {
	switch event {
	case "login", "login_failed", "denied", "throttled", "pull", "push", "delete", "reload", "override", "reset", "revocation":
		return true
	}
	return false
}

// tellJSON prints one list.
func tellJSON(w io.Writer) (tell func(*deed) error, finish func() error) {
	between := "[\n  "
	tell = func(d *deed) error {
		text, err := json.Marshal(d)
		if err == nil {
			_, err = io.WriteString(w, between+string(text))
		}
		between = ",\n  "
		return err
	}
	finish = func() error {
		end := "\n]\n"
		if between == "[\n  " {
			end = "[]\n"
		}
		_, err := io.WriteString(w, end)
		return err
	}
	return tell, finish
}

// tellLines prints a line for each. The columns have fixed widths: what comes
// later is not known yet.
func tellLines(w io.Writer) (tell func(*deed) error, finish func() error) {
	told := false
	tell = func(d *deed) error {
		told = true
		line := fmt.Sprintf("%s  %-10s  %-16s  %-15s  %s", d.Time.UTC().Format("2006-01-02 15:04:05"), d.Event, d.who(), d.Addr, d.what())
		_, err := fmt.Fprintln(w, strings.TrimRight(harmless(line), " "))
		return err
	}
	finish = func() error {
		if told {
			return nil
		}
		_, err := fmt.Fprintln(w, "nothing of that kind is in there")
		return err
	}
	return tell, finish
}

func (d *deed) who() string {
	switch d.Event {
	case "override", "reset", "revocation":
		return d.By
	case "reload":
		return cmp.Or(d.By, d.Trigger)
	}
	return d.User
}

// what is what it was done to, with all that is known of it.
func (d *deed) what() string {
	switch d.Event {
	case "reload":
		return strings.Join(d.Changes, "; ")
	case "revocation":
		if d.Everybody {
			return d.alone("everybody")
		}
		return d.alone("user " + d.User)
	case "reset":
		return "limit " + d.Limit + ": " + d.Client
	case "override":
		return d.override()
	case "login":
		return d.Via
	case "login_failed":
		return d.Reason
	}
	what := d.Repository
	switch {
	case d.Tag != "":
		what += ":" + d.Tag
	case d.Reference != "" && d.Reference != d.Digest:
		what += ":" + d.Reference
	}
	if d.Digest != "" {
		what += "@" + d.Digest
	}
	if d.Event == "denied" || d.Event == "throttled" {
		what = joinWords(what, d.Decision)
		if d.Limit != "" {
			what = joinWords(what, "limit "+d.Limit)
		}
	}
	return what
}

// override is what a limit was changed to, for how long.
func (d *deed) override() string {
	what := joinWords("limit "+d.Limit, d.Rate)
	if d.DryRun {
		what = joinWords(what, "dry run")
	}
	switch {
	case d.Ended:
		what = joinWords(what, "ended")
	case !d.Until.IsZero():
		what = joinWords(what, "until "+d.Until.UTC().Format(time.DateTime))
	}
	return d.alone(what)
}

// alone adds that a change held on one instance only at first.
func (d *deed) alone(what string) string {
	if d.Shared != nil && !*d.Shared {
		what = joinWords(what, "not shared at once")
	}
	return what
}
