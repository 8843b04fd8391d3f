package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/regward/regward/configs"
	"github.com/regward/regward/proxy"
)

// explainPast tells why something was refused, from the memory of the running
// instance or from an audit log.
func (a *app) explainPast(ctx context.Context, q question) error {
	if q.who || q.action != "" || q.tag != "" || len(q.groups) > 0 || q.passwordStdin {
		return usageError("explain: --last and --request-id take --repository, --user, --from, --since and --audit only")
	}
	want := proxy.RefusalQuery{RequestID: q.requestID, User: q.user}
	host := ""
	if q.repository != "" {
		want.Repository, host = a.recorded(q.repository)
	}
	var err error
	if q.from != "" {
		if want.From, err = parseNetwork(q.from); err != nil {
			return usageError("explain: --" + err.Error())
		}
	}
	if q.since != "" {
		d, err := configs.ParseDuration(q.since)
		if err != nil {
			return usageError("explain: --since: " + err.Error())
		}
		want.Since = time.Now().Add(-time.Duration(d))
	}
	var answer refusalsAnswer
	if q.audit != "" {
		answer, err = a.refusalsOfLog(q.audit, want)
	} else {
		answer, err = a.refusalsOfInstance(ctx, want)
	}
	if err != nil {
		return err
	}
	if host != "" {
		answer.Refusals = slices.DeleteFunc(answer.Refusals, func(r proxy.Refusal) bool {
			return r.Host != "" && bareHosts([]string{r.Host})[0] != host
		})
	}
	return a.printRefusals(answer, q)
}

func (a *app) refusalsOfInstance(ctx context.Context, want proxy.RefusalQuery) (answer refusalsAnswer, err error) {
	client, err := a.adminClient()
	if err != nil {
		return answer, err
	}
	query := url.Values{}
	set := func(key, value string) {
		if value != "" {
			query.Set(key, value)
		}
	}
	set("request_id", want.RequestID)
	set("repository", want.Repository)
	set("user", want.User)
	if want.From.IsValid() {
		set("from", want.From.String())
	}
	if !want.Since.IsZero() {
		set("since", want.Since.UTC().Format(time.RFC3339))
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	status, body, err := client.do(ctx, http.MethodGet, "/api/v1/refusals?"+query.Encode())
	if err != nil {
		return answer, err
	}
	if status != http.StatusOK {
		return answer, fmt.Errorf("the running instance answered %d: %s", status, strings.TrimSpace(string(body)))
	}
	return answer, json.Unmarshal(body, &answer)
}

// maxLogLine is far more than any line of ours.
const maxLogLine = 1 << 20

// auditLine is what the audit log says about a refusal.
type auditLine struct {
	proxy.Refusal
	Event string `json:"msg"`
	Via   string `json:"via"`
}

// refusalsOfLog reads an audit log; lines of other logs among it are skipped.
func (a *app) refusalsOfLog(file string, want proxy.RefusalQuery) (answer refusalsAnswer, err error) {
	in := a.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return answer, err
		}
		defer f.Close()
		in = f
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLogLine)
	for lines.Scan() {
		text := lines.Bytes()
		start := strings.IndexByte(string(text), '{') // `kubectl logs --prefix` and journals put something in front
		var line auditLine
		if start < 0 || json.Unmarshal(text[start:], &line) != nil || !line.refused() {
			continue
		}
		if chooses(want, &line.Refusal) {
			answer.Refusals = append(answer.Refusals, line.Refusal)
		}
	}
	slices.Reverse(answer.Refusals)
	if lines.Err() != nil {
		return answer, fmt.Errorf("%s: %w", file, lines.Err())
	}
	return answer, nil
}

// refused reports whether the line is about a refusal, and completes it with
// what the event says.
func (l *auditLine) refused() bool {
	if l.User == "anonymous" {
		l.User = ""
	}
	fill := func(reason string) {
		if l.Reason == "" {
			l.Reason = reason
		}
	}
	switch l.Event {
	case "denied":
		if strings.HasPrefix(l.Decision, "the token presented does not cover") {
			fill("token_does_not_cover")
		}
		fill("not_allowed")
	case "throttled":
		fill("limit")
		if strings.HasPrefix(l.Credential, "locked out") {
			l.Reason = "too_many_failed_logins"
		}
	case "login_failed":
		fill("wrong_password")
		l.Action, l.Credential = "login", "wrong password: "+l.User
		switch l.Reason {
		case "bad_certificate":
			l.Credential = "bad certificate: " + l.User
		case "expired_robot", "rotated_secret", "robot_elsewhere":
			l.Credential = strings.ReplaceAll(l.Reason, "_", " ")
		}
		if l.Detail != "" && l.Via != "" {
			l.Detail = l.Via + ": " + l.Detail
		}
		if l.Status == 0 {
			l.Status = http.StatusUnauthorized
		}
	default:
		return false
	}
	return true
}

func chooses(q proxy.RefusalQuery, r *proxy.Refusal) bool {
	return (q.RequestID == "" || q.RequestID == r.RequestID) &&
		(q.Repository == "" || q.Repository == r.Repository) &&
		(q.User == "" || q.User == r.User || strings.HasSuffix(r.Credential, ": "+q.User) || q.User == "anonymous" && r.User == "") &&
		(!q.From.IsValid() || q.From.Contains(r.Addr)) &&
		!r.Time.Before(q.Since)
}

// told is one refusal as explain prints it: equal ones are one.
type told struct {
	proxy.Refusal
	Times  int       `json:"times"`
	Since  time.Time `json:"since"` // the first of them
	Likely string    `json:"likely"`
}

// sameRefusal is what must be equal for two refusals to be counted together.
type sameRefusal struct {
	host, user, credential, repository, reference, action, reason, decision, limit, agent string
	addr                                                                                  netip.Addr
	status                                                                                int
}

// together counts equal refusals, newest first.
func together(list []proxy.Refusal) []told {
	at := map[sameRefusal]int{}
	out := []told{}
	for _, r := range list {
		key := sameRefusal{r.Host, r.User, r.Credential, r.Repository, r.Reference, r.Action, r.Reason, r.Decision, r.Limit, r.UserAgent, r.Addr, r.Status}
		i, seen := at[key]
		if !seen {
			i = len(out)
			at[key] = i
			out = append(out, told{Refusal: r, Likely: likely(&r)})
		}
		out[i].Times++
		out[i].Since = r.Time
	}
	return out
}

func (a *app) printRefusals(answer refusalsAnswer, q question) error {
	list := together(answer.Refusals)
	if a.json() {
		if err := a.printJSON(list); err != nil {
			return err
		}
	}
	if len(list) == 0 {
		if q.requestID != "" {
			return fmt.Errorf("no refusal with request id %s is remembered: the last 10,000 are, of this instance, since its start", q.requestID)
		}
		if !a.json() {
			fmt.Fprintln(a.stdout, "nothing was refused")
		}
	}
	if !a.json() {
		for i := range list {
			printTold(a.stdout, &list[i], answer)
		}
	}
	return nil
}

// printTold writes one refusal in three lines (walkthrough, day 2).
func printTold(w io.Writer, t *told, answer refusalsAnswer) {
	const indent = "          "
	what := t.Repository
	if t.Reference != "" {
		sep := ":"
		if strings.Contains(t.Reference, ":") {
			sep = "@"
		}
		what += sep + t.Reference
	}
	first := []string{clock(t.Time), refusalWord(&t.Refusal), strings.TrimSpace(t.Action + " " + what), credentialWords(&t.Refusal)}
	if t.Addr.IsValid() {
		first = append(first, "from "+t.Addr.String())
	}
	if agent, _, _ := strings.Cut(t.UserAgent, " "); agent != "" {
		first = append(first, agent)
	}
	if t.Times > 1 {
		first = append(first, fmt.Sprintf("x%d since %s", t.Times, clock(t.Since)))
	}
	fmt.Fprintln(w, harmless(strings.Join(slices.DeleteFunc(first, func(s string) bool { return s == "" }), "  ")))
	switch {
	case t.Decision != "":
		fmt.Fprintln(w, harmless(indent+t.Decision))
	case t.Detail != "":
		fmt.Fprintln(w, harmless(indent+t.Detail))
	case t.Message != "":
		fmt.Fprintln(w, harmless(indent+t.Message))
	}
	line := indent + "likely: " + t.Likely
	if t.Config != "" {
		line += "   config " + t.Config
		switch {
		case answer.Config == "":
		case answer.Config == t.Config:
			line += fmt.Sprintf(", loaded %s, still current", clock(answer.Loaded))
		default:
			line += ", no longer current"
		}
	}
	fmt.Fprintln(w, harmless(line))
}

// clock is a time of today; older ones have their date. Everything is in UTC,
// as in the logs.
func clock(t time.Time) string {
	t = t.UTC()
	if time.Since(t).Abs() > 20*time.Hour {
		return t.Format("2006-01-02 15:04:05")
	}
	return t.Format("15:04:05")
}
