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

	"github.com/regward/regward/auth"
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

// sentNothing reports whether the client came without a login: a token for
// nobody is what it is given then.
func sentNothing(r *proxy.Refusal) bool {
	return r.Credential == "none" || r.Credential == "anonymous token" || r.Credential == ""
}

// likely says what is probably wrong, and what to do.
func likely(r *proxy.Refusal) string {
	login, secret := "docker login", "an imagePullSecret"
	if r.Host != "" {
		login, secret = login+" "+r.Host, secret+" for "+r.Host
	}
	switch r.Reason {
	case "no_credential":
		return "no credential sent: " + login + "; for a pod, " + secret
	case "wrong_password":
		return "the password typed or saved is wrong: " + login + " again; for a pod, renew its imagePullSecret"
	case "unknown_user":
		return "nobody has that name: is it spelled as the provider has it? For an issuer's token it is " + auth.OIDCUser + "; for a robot, robot-NAME"
	case "account_barred":
		return "the password may be right: whoever looks after the directory has to unlock or renew the account"
	case "token_expired":
		return "a job asked its issuer for a token too early: ask right before the login; is a clock wrong?"
	case "wrong_audience":
		return "the job's token is for somebody else: ask the issuer for one with the audience in auth.oidc"
	case "wrong_token":
		return "the token is not by an issuer of auth.oidc, or lacks what is required there; regward explain --user " + auth.OIDCUser + " --password-stdin says which"
	case "login_provider":
		return "whoever knows the login could not be asked: regward validate --online says what is wrong"
	case "bad_certificate":
		return "the client certificate on that machine is not good any more, or was never one for here: renew it, take it away, or " + login
	case "too_many_failed_logins":
		return "too many wrong passwords from there: find the job with the old password; the lock ends by itself"
	case "expired_robot":
		return "a robot has expired: regward token rotate NAME --expires 90d, and give its job the new secret"
	case "rotated_secret":
		return "a job still has a robot's old secret: give it the new one"
	case "robot_elsewhere":
		return "a robot came from outside its networks: run the job inside, or add the network to from"
	case "expired_token":
		return "the client went on with an old token: it should fetch a new one by itself; is its clock right?"
	case "ended_login":
		return "the login saved on that machine has ended: " + login + " again"
	case "revoked_token":
		return "the login was changed or taken away since: " + login + " again"
	case "invalid_token":
		return "the token is damaged or signed by another key: do several instances run without one token.key_file?"
	case "malformed_credential":
		return "what the client sent is no credential at all: docker logout, then " + login
	case "token_does_not_cover":
		return "the client asked for a token for something else; the rules would allow it"
	case "limit":
		return fmt.Sprintf("limit %q is used up: it fills by itself; regward explain --user ... --repository ... shows what counts", r.Limit)
	case "read_only":
		return "upstream.read_only is set: writing is off for everybody"
	case "upstream":
		if r.Status == http.StatusTooManyRequests {
			return "a limit of the upstream's, not of regward: wait, give it an account that has more, or put a cache in between"
		}
		return "the upstream did not answer as it should: see the log of that request id"
	case "overloaded":
		return "too many logins at once: the client should try again"
	case "not_allowed":
		if strings.Contains(r.Decision, " immutable for ") {
			return "an immutable tag is pushed once: push under a new one, or have it moved by somebody whom that rule does not mean"
		}
		if strings.Contains(r.Decision, ", only for tags ") {
			return "it is the tag: rules let " + r.User + " do that under others; push under one of those, or add this one to the rule's tags"
		}
		rule, _, denied := strings.Cut(r.Decision, " denies ")
		if denied && !(sentNothing(r) && strings.HasSuffix(r.Decision, " to anonymous")) {
			return "no allow beats a deny: make " + rule + " narrower, unless this is meant"
		}
		if sentNothing(r) {
			return "no login was sent: " + login + "; or, for a pod, it lacks " + secret
		}
		return fmt.Sprintf("%s is logged in and has no right: add a rule, or %[1]s to a group that has one in `groups`", r.User)
	}
	return "nothing wrong with rights or limits: the request itself was not understood"
}

// credentialWords keeps the repairs apart: nothing sent, a wrong one, an
// expired one, or a good one without the right.
func credentialWords(r *proxy.Refusal) string {
	user := r.User
	if user == "" {
		user = "anonymous"
	}
	switch {
	case sentNothing(r):
		return "user: anonymous (no credential sent)"
	case strings.HasPrefix(r.Credential, "wrong password: ") && strings.Contains(" account_barred token_expired wrong_audience wrong_token ", " "+r.Reason+" "):
		return "user: " + strings.TrimPrefix(r.Credential, "wrong password: ") + " (" + strings.ReplaceAll(r.Reason, "_", " ") + ")"
	case r.Reason == "wrong_password" || strings.HasPrefix(r.Credential, "wrong password"):
		return "user: " + strings.TrimPrefix(r.Credential, "wrong password: ") + " (wrong password)"
	case strings.HasPrefix(r.Credential, "locked out: "):
		return "user: " + strings.TrimPrefix(r.Credential, "locked out: ") + " (locked out)"
	case r.Credential == "basic" && r.User == "":
		return "user: not known (the login was not checked)"
	case r.Credential == "basic" || r.Credential == "token":
		return "user: " + user + " (credential of user " + user + ")"
	}
	return "user: " + user + " (" + r.Credential + ")"
}

// refusalWord is the verdict in one word.
func refusalWord(r *proxy.Refusal) string {
	switch {
	case r.Status == http.StatusTooManyRequests:
		return "throttled"
	case r.Status >= 500:
		return "failed"
	}
	return "denied"
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
