package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
	"github.com/regward/regward/proxy"
	"github.com/regward/regward/ratelimit"
)

// somebody stands for a login without a name of its own; no rule can name it,
// since it is no legal user name.
const somebody = "(somebody)"

// question is the command line of explain.
type question struct {
	user          string
	passwordStdin bool
	groups        []string
	from          string
	repository    string
	action        string
	tag           string
	who           bool

	requestID string
	last      bool
	since     string
	audit     string
}

func (a *app) explainCommand() *cobra.Command {
	var q question
	c := &cobra.Command{
		Use:   "explain",
		Short: "Say who may do what and why, or why something was refused",
		Long: `Say who may do what and why, or why something was refused.

  regward explain --user bob --repository coolteam/app --action push    the rule that decides
  regward explain ... --action push --tag v1.2                          the same under rules with tags
  regward explain --user bob                                           all that bob may
  regward explain --user bob --password-stdin                          log bob in for real: who says what
  regward explain --repository coolteam/app --who                      who may
  regward explain --request-id ID                                      why that one was refused
  regward explain --last --repository coolteam/app --since 30m         the last refusals

The last two ask the running instance, or read an audit log with --audit FILE.`,
		Args: nothingBut("explain: --repository %s?"),
		RunE: do(func(ctx context.Context, _ []string) error { return a.explain(ctx, q) }),
	}
	f := c.Flags()
	f.StringVar(&q.user, "user", "", "the `NAME` who asks; without it, anonymous")
	f.BoolVar(&q.passwordStdin, "password-stdin", false, "log --user in with the password on stdin, and say who said what")
	f.StringSliceVar(&q.groups, "group", nil, "a `GROUP` the caller is in, besides those of the file; may be repeated")
	f.StringVar(&q.from, "from", "", "the caller's `ADDRESS`; a network with --last")
	f.StringVar(&q.repository, "repository", "", "the `NAME` of the repository, as clients write it, with a hostname in front or without")
	f.StringVar(&q.action, "action", "", "pull, push or delete")
	f.StringVar(&q.tag, "tag", "", "the `TAG`, for rules that name tags; without it, a digest, a blob or an upload")
	f.BoolVar(&q.who, "who", false, "list who may")
	f.StringVar(&q.requestID, "request-id", "", "the `ID` that a refusal ended with")
	f.BoolVar(&q.last, "last", false, "the last refusals, equal ones counted together")
	f.StringVar(&q.since, "since", "", "how long ago at most: 30m, 1h, 2d")
	f.StringVar(&q.audit, "audit", "", "read the audit log `FILE` instead of asking the running instance; - is stdin")
	return c
}

func (a *app) explain(ctx context.Context, q question) error {
	past := q.requestID != "" || q.last
	switch {
	case q.requestID != "" && q.last:
		return usageError("explain: --request-id is one refusal, --last are several: choose one")
	case past:
		return a.explainPast(ctx, q)
	case q.since != "" || q.audit != "":
		return usageError("explain: --since and --audit go with --last or --request-id")
	case q.who && (q.repository == "" || q.user != "" || len(q.groups) > 0):
		return usageError("explain: --who lists who may do something with --repository, and takes neither --user nor --group")
	case !q.who && q.repository == "" && q.user == "" && len(q.groups) == 0:
		return usageError("explain: say what to explain: --repository and --action, --user, --request-id or --last")
	case !q.who && (q.repository == "") != (q.action == ""):
		return usageError("explain: --repository and --action go together; --user alone lists all that user may, --who who may")
	case q.passwordStdin && q.user == "":
		return usageError("explain: --password-stdin needs --user")
	}
	if err := q.checkTag(); err != nil {
		return err
	}
	x, err := a.newExplainer(q)
	if err != nil {
		return err
	}
	if x.cfg.Version == "" && x.settings.Policy == nil {
		return errors.New("no rules")
	}
	if q.who {
		return a.explainWho(x, q)
	}
	if err := x.login(ctx, a, q); err != nil {
		return err
	}
	if q.repository == "" {
		return a.explainCaller(x)
	}
	return a.explainAccess(ctx, x, q)
}

// explainer is a loaded configuration and the caller it is asked about.
type explainer struct {
	cfg        *configs.Config
	settings   proxy.Settings
	caller     auth.Caller
	repository string
	provider   string      // what is known of the caller's login
	logins     []loginSaid // what --password-stdin found out
	rejected   bool        // nobody logs in so
	unsaid     error       // nobody could say

	robotsUnread error // why what robots may is not known
}

// newExplainer loads the configuration; only a password needs more of it than
// the YAML.
func (a *app) newExplainer(q question) (*explainer, error) {
	src, err := a.source("")
	if err != nil {
		return nil, err
	}
	x := &explainer{repository: q.repository}
	if x.cfg, err = src.load(!q.passwordStdin); err != nil {
		return nil, err
	}
	if !q.passwordStdin {
		// What robots were given is rules, too; a file that cannot be read has none.
		_, x.cfg.Auth.Robots, x.robotsUnread = readRobots(x.cfg.Auth.TokensFile)
		c := *x.cfg
		c.Auth.Htpasswd = "" // rules and limits do not need it
		x.settings, err = build(&c, nil, nil)
	} else {
		x.settings, err = build(x.cfg, nil, nil)
	}
	if err != nil {
		return nil, err
	}
	if q.from != "" {
		if x.caller.Addr, err = netip.ParseAddr(q.from); err != nil {
			return nil, usageError(fmt.Sprintf("explain: --from %q is no address", q.from))
		}
	}
	x.caller.Identity = x.identity(q.user, q.groups)
	if !q.passwordStdin && q.user != "" {
		switch robot := x.robot(x.caller.Name); {
		case robot != nil:
			x.provider = robotFault(robot, x.caller.Addr)
			x.rejected = x.provider != ""
		case x.robotsUnread != nil && robotLike(x.caller.Name):
			x.provider, x.rejected, x.unsaid = "nobody knows here what robots may", true, x.robotsUnread
		default:
			x.provider = cmp.Or(x.whereLogins(q.repository), x.stranger(), x.groupsElsewhere(q))
		}
	}
	return x, nil
}

// robotLike reports whether a name is as those of robots are. People may be called
// so, too.
func robotLike(name string) bool {
	return strings.HasPrefix(name, auth.RobotPrefix)
}

// groupsElsewhere says that somebody may be in groups that no file here has; ""
// where there are none, or they were given.
func (x *explainer) groupsElsewhere(q question) string {
	var from []string
	for _, p := range []struct {
		name string
		set  bool
	}{{"ldap", x.cfg.Auth.LDAP.Set() && x.cfg.Auth.LDAP.GroupBase != ""}, {"webhook", x.cfg.Auth.Webhook.URL != ""}} {
		if p.set {
			from = append(from, p.name)
		}
	}
	for _, o := range x.cfg.Auth.OIDC {
		if len(o.Groups) > 0 || o.GroupsClaim != "" {
			from = append(from, "oidc:"+o.Name)
		}
	}
	if len(from) == 0 || len(q.groups) > 0 {
		return ""
	}
	return fmt.Sprintf("groups that %s may give %s are not among these: add --group GROUP, or --password-stdin", strings.Join(from, " or "), x.caller.Name)
}

// stranger says that nobody can log in by the caller's name, "" if somebody can
// or the file cannot be looked at: the rules are explained all the same.
func (x *explainer) stranger() string {
	if robotLike(x.caller.Name) && x.cfg.Auth.Robots != nil {
		return fmt.Sprintf("there is no robot %s: this is what a person of that name may", strings.TrimPrefix(x.caller.Name, auth.RobotPrefix))
	}
	if known := askedBefore(&x.cfg.Auth); !slices.Equal(known, []string{"htpasswd"}) || len(x.cfg.Auth.OIDC) > 0 || x.cfg.TLS.ClientCAFile != "" {
		return "" // somebody else may know the name
	}
	data, err := readBounded(x.cfg.Auth.Htpasswd)
	if err != nil {
		return ""
	}
	o := auth.HtpasswdOptions{AllowWeak: x.cfg.Auth.AllowWeakHashes, CaseSensitive: x.cfg.Auth.CaseSensitive}
	users, err := auth.ParseHtpasswd(x.cfg.Auth.Htpasswd, data, o)
	if err != nil || slices.Contains(users.Names(), x.caller.Identity.Name) {
		return ""
	}
	return fmt.Sprintf("htpasswd has no user %s: nobody can log in by that name", x.caller.Identity.Name)
}

// identity is a user with the fixed groups of the file and some more.
func (x *explainer) identity(user string, groups []string) auth.Identity {
	if user == "" && len(groups) > 0 {
		user = somebody
	}
	if !x.settings.CaseSensitive {
		user = strings.ToLower(user)
	}
	if robot, ok := x.cfg.Auth.Robots.Identity(user); ok {
		return robot
	}
	all := append(slices.Clone(x.settings.Groups[user]), groups...)
	slices.Sort(all)
	return auth.Identity{Name: user, Groups: slices.Compact(all)}
}

// ruleStep is one rule that explain looked at.
type ruleStep struct {
	Rule    string `json:"rule"`
	Text    string `json:"text"`
	Applies bool   `json:"applies"`
	Why     string `json:"why"`
}

// explanation is what explain prints as JSON about one access.
type explanation struct {
	Verdict    string      `json:"verdict"`
	Caller     string      `json:"caller"`
	Login      string      `json:"login,omitempty"`
	Logins     []loginSaid `json:"logins,omitempty"`
	Action     string      `json:"action"`
	Repository string      `json:"repository"`
	place
	Tag       string     `json:"tag,omitempty"`
	Decision  string     `json:"decision"`
	Rule      string     `json:"rule,omitempty"`
	Immutable string     `json:"immutable,omitempty"` // the sentence about a push of an immutable tag
	Rules     []ruleStep `json:"rules"`
	Limits    []string   `json:"limits"`
}

// access is what rules are asked about.
func (x *explainer) access(q question, action auth.Action) auth.Access {
	want := x.cfg.Access(q.repository, action)
	want.Tag = q.tag
	return want
}

func (a *app) explainAccess(ctx context.Context, x *explainer, q question) error {
	action, err := parseAction(q.action)
	if err != nil {
		return err
	}
	_, where := x.find(q.repository)
	want := x.access(q, action)
	decision, steps := x.settings.Policy.Explain(&x.caller, []auth.Access{want})
	if decision.Allowed() && action == auth.Push {
		// A push looks what is there already: every client needs both.
		pull := want
		pull.Action = auth.Pull
		if d, s := x.settings.Policy.Explain(&x.caller, []auth.Access{pull}); !d.Allowed() {
			decision, steps = d, s
		}
	}
	e := explanation{
		Verdict: decision.Verdict.String(), Caller: x.caller.String(), Login: x.provider, Logins: x.logins,
		Action: action.String(), Repository: q.repository, place: where, Tag: q.tag,
		Decision: decision.String(), Rule: decision.Rule, Rules: []ruleStep{}, Limits: []string{},
	}
	if why := x.refusedBy(q.repository, action); why != "" {
		e.Verdict, e.Decision, e.Rule = "denied", why, ""
	}
	if x.rejected {
		e.Verdict, e.Decision, e.Rule = "denied", x.provider, ""
	}
	if x.unsaid != nil {
		e.Verdict = "unknown"
	}
	if e.Verdict == "allowed" {
		e.Immutable = x.kept(want)
	}
	for _, s := range steps {
		e.Rules = append(e.Rules, ruleStep(s))
	}
	limits := x.settings.LimitsFor(&x.caller, want)
	over := a.overridden(ctx, len(limits) > 0)
	for _, l := range limits {
		e.Limits = append(e.Limits, limitWords(l)+over.words(l.Name))
	}
	if a.json() {
		err = a.printJSON(e)
	} else {
		err = a.printExplanation(e)
	}
	if err == nil && e.Verdict != "allowed" {
		err = cmp.Or(x.unsaid, errTold)
	}
	return err
}

func (a *app) printExplanation(e explanation) error {
	var b strings.Builder
	what := e.Repository
	if e.Tag != "" {
		what += ":" + e.Tag
	}
	fmt.Fprintf(&b, "%s: %s %s as %s\n", e.Verdict, e.Action, what, e.Caller)
	fmt.Fprintf(&b, "  %s\n", e.Decision)
	if e.Immutable != "" {
		fmt.Fprintf(&b, "  %s\n", e.Immutable)
	}
	for _, line := range e.words() {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	if e.Login != "" && e.Login != e.Decision {
		fmt.Fprintf(&b, "login:\n  %s\n", e.Login)
	}
	printLogins(&b, e.Logins)
	if len(e.Rules) > 0 {
		fmt.Fprintln(&b, "rules:")
	}
	for _, s := range e.Rules {
		mark := "-"
		if s.Rule == e.Rule {
			mark = "*"
		} else if s.Applies {
			mark = "+"
		}
		fmt.Fprintf(&b, "  %s %s: %s\n      %s\n", mark, s.Rule, s.Text, s.Why)
	}
	if len(e.Limits) > 0 {
		fmt.Fprintln(&b, "limits that would count:")
	}
	for _, l := range e.Limits {
		fmt.Fprintf(&b, "  %s\n", l)
	}
	_, err := fmt.Fprint(a.stdout, b.String())
	return err
}

// limitWords is a limit for people: `people: 1000/6h pulls per user, limits[1] at regward.yaml:20`.
func limitWords(l proxy.Limit) string {
	counts := map[proxy.Count]string{proxy.Requests: "requests", proxy.Pulls: "pulls", proxy.Pushes: "pushes", proxy.FailedLogins: "failed logins",
		proxy.Bytes: "bytes", proxy.Transfers: "transfers at once"}
	pers := map[proxy.Per]string{proxy.PerClient: "client", proxy.PerUser: "user", proxy.PerIP: "ip", proxy.PerGroup: "group",
		proxy.PerNamespace: "namespace", proxy.PerRepository: "repository", proxy.PerAll: "all", proxy.PerIPUser: "ip and user"}
	amount := l.Rate.String()
	if l.Rate.Burst != l.Rate.Events {
		amount += fmt.Sprintf(" burst %d", l.Rate.Burst)
	}
	switch l.Count {
	case proxy.Bytes:
		amount = l.Rate.ByteString()
		if usual, err := ratelimit.ParseByteRate(amount); err == nil && usual.Burst != l.Rate.Burst {
			amount += " burst " + ratelimit.FormatBytes(l.Rate.Burst)
		}
	case proxy.Transfers:
		amount = fmt.Sprint(l.Most)
	}
	s := fmt.Sprintf("%s: %s %s per %s", l.Name, amount, counts[l.Count], pers[l.Per])
	if l.DryRun {
		s += " (dry run)"
	}
	if l.Where != "" {
		s += ", " + l.Where
	}
	return s
}

func parseAction(s string) (auth.Action, error) {
	for _, action := range actions() {
		if action.String() == s {
			return action, nil
		}
	}
	return 0, usageError(fmt.Sprintf("explain: --action is pull, push or delete, not %q", s))
}

func actions() []auth.Action { return []auth.Action{auth.Pull, auth.Push, auth.Delete} }
