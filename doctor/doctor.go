// Package doctor answers one question: why does my client not get on with that
// registry? It looks at a live registry or proxy from the outside, as clients
// do, and knows nothing of how it is built or configured.
package doctor

import (
	"context"
	"crypto/x509"
	"net/netip"
	"net/url"
	"time"
)

// Level says how bad a finding is.
type Level string

const (
	Problem Level = "problem" // clients fail
	Warning Level = "warning" // some clients fail, or all of them soon
	Note    Level = "note"    // worth knowing
	OK      Level = "ok"
)

// Finding is one thing seen. Check is a stable name: dns, port, proxy, chain,
// C05 and so on. Why and Fix are empty where Level is OK.
type Finding struct {
	Check string `json:"check"`
	Level Level  `json:"level"`
	What  string `json:"what"`
	Why   string `json:"why,omitempty"`
	Fix   string `json:"fix,omitempty"`
}

// Untried is a check that could not be done, or was not asked for.
type Untried struct {
	Check string `json:"check"`
	Why   string `json:"why"`
}

// Report is all that was seen, in the order of the checks.
type Report struct {
	URL      string    `json:"url"`
	Findings []Finding `json:"findings"`
	NotTried []Untried `json:"not_tried"`

	Host  string              `json:"-"` // as clients write it in image names
	Chain []*x509.Certificate `json:"-"` // as the server sent it; empty without TLS
}

// Count is how many findings have that level.
func (r *Report) Count(l Level) int {
	n := 0
	for _, f := range r.Findings {
		if f.Level == l {
			n++
		}
	}
	return n
}

// Options are what to look at. Only Target is needed.
type Options struct {
	Target     Target
	User       string // "": anonymous
	Password   string
	Repository string // "": none
	Origin     string // of a web page that has to reach the registry; "": none

	CA     []*x509.Certificate // trusted besides those of the system
	Getenv func(string) string // proxy settings; nil: none
	Now    func() time.Time
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error) // nil: the system's resolver

	// Step bounds one network step and Transfer the trial body; 0: 10 s and 60 s.
	Step, Transfer time.Duration
}

const (
	defaultStep     = 10 * time.Second
	defaultTransfer = time.Minute
)

// Run does all checks, one after the other, and goes on as far as it can. It
// changes nothing at the registry but for one upload, which it starts and
// cancels, and that only with a user, a repository and the right to push.
// The password goes over verified TLS alone; plain HTTP gets it on loopback,
// if that is what Target says.
func Run(ctx context.Context, o Options) Report {
	if o.Step == 0 {
		o.Step = defaultStep
	}
	if o.Transfer == 0 {
		o.Transfer = defaultTransfer
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	e := &examination{o: o, at: o.Target, report: Report{
		URL: o.Target.String(), Host: o.Target.Host(), Findings: []Finding{}, NotTried: []Untried{},
	}}
	e.concealLogin()
	e.run(ctx)
	return e.report
}

// examination is one run.
type examination struct {
	o       Options
	at      Target
	report  Report
	secrets []string // and what stands for them, in turns

	via      *url.URL // the proxy that the environment names; nil: none
	addrs    []netip.Addr
	verified bool // the certificate is right in every way: a password may go there
	net      *network

	ping      reply
	others    []reply // 401 with a challenge, as other paths are answered without a login
	challenge challenge
	token     string // of the last login; "": none
	basic     bool   // the registry takes Basic, and took ours
	asUser    bool   // the login succeeded
	pull      verdict
	push      verdict
	tag       string // one of the repository's; "": none is known
	limits    string // what rate headers have said
}

// verdict is what is known of a right.
type verdict int

const (
	unknown verdict = iota
	granted
	denied
)

// checks are all that depend on an answer of the registry, in order.
func checks() []string {
	return []string{"clock", "challenge", "C07", "realm", "login", "scope", "location", "body", "cors", "rate"}
}

func (e *examination) run(ctx context.Context) {
	if e.at.Path != "" {
		e.warn("url", "the path "+e.at.Path+" is in the URL; what follows was looked at below it",
			"image names have no room for it: docker, podman and containerd always ask "+e.at.Origin()+"/v2/",
			"give the repository a port or a name of its own, or put a proxy in front that adds the path (regward: upstream.url)")
	}
	if why := e.reach(ctx); why != "" {
		e.skip(why, append([]string{"tls"}, checks()...)...)
		return
	}
	e.net = e.newNetwork()
	defer e.net.close()
	if why := e.checkTLS(ctx); why != "" {
		e.skip(why, checks()...)
		return
	}
	if why := e.askPing(ctx); why != "" {
		e.skip(why, checks()[1:]...)
		return
	}
	e.askPaths(ctx)
	e.checkChallenge()
	e.checkLogin(ctx)
	e.checkScope(ctx)
	e.checkUpload(ctx)
	e.checkCORS(ctx)
	e.checkRates(ctx)
}

func (e *examination) problem(check, what, why, fix string) { e.add(check, Problem, what, why, fix) }
func (e *examination) warn(check, what, why, fix string)    { e.add(check, Warning, what, why, fix) }
func (e *examination) note(check, what, why, fix string)    { e.add(check, Note, what, why, fix) }
func (e *examination) ok(check, what string)                { e.add(check, OK, what, "", "") }

// add is the only way into the report: nothing of a credential passes it, and
// no control character that would move a terminal's cursor.
func (e *examination) add(check string, l Level, what, why, fix string) {
	f := Finding{Check: check, Level: l, What: e.clean(what), Why: e.clean(why), Fix: e.clean(fix)}
	for _, known := range e.report.Findings {
		if known == f {
			return // seen on several answers
		}
	}
	e.report.Findings = append(e.report.Findings, f)
}

// limited says once that a limit has been reached: then every answer does.
func (e *examination) limited(what string, r reply, fix string) {
	for _, f := range e.report.Findings {
		if f.Check == "rate" && f.Level == Problem {
			return
		}
	}
	e.problem("rate", what+" is answered "+e.said(r)+e.retryAfter(r)+e.limitWords(), "a limit has been reached, and this is no login problem, whatever clients print: pulls end with toomanyrequests; docker takes a limited ping for one that asks for no login", fix)
}

// skip lists checks that are not done.
func (e *examination) skip(why string, checks ...string) {
	for _, c := range checks {
		e.report.NotTried = append(e.report.NotTried, Untried{Check: c, Why: e.clean(why)})
	}
}
