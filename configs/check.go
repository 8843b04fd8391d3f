package configs

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// checker looks at a decoded configuration as a whole.
type checker struct {
	*reader
	*Config
	users []string // names of htpasswd; nil where it was not read
}

// given reports whether the file has a value at path, unknown ones included.
func (k *checker) given(path string) bool { _, ok := k.src.values[path]; return ok }

// absent reports whether the value at path is an unset variable.
func (k *checker) absent(path string) bool { return k.src.values[path].absent }

// bad reports an error at path, or at the nearest thing around it that the
// file has.
func (k *checker) bad(path, msg, fix string) { k.say(Error, path, path, msg, fix) }

func (k *checker) say(s Severity, place, path, msg, fix string) {
	o := k.place(place)
	k.report(Problem{Severity: s, Line: o.line, Col: o.col, Path: path, Msg: msg, Fix: fix})
}

func (k *checker) place(path string) origin {
	for ; path != ""; path = parent(path) {
		if o, ok := k.src.values[path]; ok {
			return o
		}
	}
	return origin{line: 1, col: 1}
}

// parent cuts the last key or index off: "rules[2].allow", "rules[2]", "rules".
func parent(path string) string { return path[:max(0, strings.LastIndexAny(path, ".["))] }

// complete fills in what follows from other fields.
func (k *checker) complete() {
	if k.Upstream != nil {
		k.Upstreams = append([]Upstream{*k.Upstream}, k.Upstreams...)
	}
	k.completeTLS()
	for i := range k.Upstreams {
		k.Upstreams[i].complete()
	}
	k.completeLogins()
	k.completeProviders()
	k.Health.Listen = orOff(k.Health.Listen)
	k.Admin.Listen = orOff(k.Admin.Listen)
	if k.Token.KeyFile == "" {
		k.Token.KeyFile = filepath.Join(k.StateDir, "token.pem")
		k.Token.Create = !k.given("token.key_file")
	}
	if k.Auth.TokensFile == "" {
		k.Auth.TokensFile = filepath.Join(k.StateDir, "tokens.yaml")
		k.Auth.OwnTokens = !k.given("auth.tokens_file")
	}
	for i := range k.Rules {
		k.foldAll(k.Rules[i].Subjects)
	}
	for i := range k.Limits {
		l := &k.Limits[i]
		k.foldAll(l.Subjects)
		k.foldAll(l.Exempt.Subjects)
		if l.Per == "" {
			l.Per = PerClient
		}
		k.readAmounts(i)
	}
	if !slices.ContainsFunc(k.Limits, func(l Limit) bool { return l.Count == CountFailedLogins }) {
		k.Limits = append(k.Limits, builtIn()...)
	}
	for _, name := range []*string{&k.Log.Access, &k.Log.Audit} {
		if *name != "off" && *name != "stdout" && *name != "" && !filepath.IsAbs(*name) {
			*name = filepath.Join(k.opts.Dir, *name)
		}
	}
}

// builtIn are the limits that hold unless the file has its own for failed logins.
func builtIn() []Limit {
	one := Limit{Name: "failed_logins", Count: CountFailedLogins, Per: PerIPUser, Where: "built in"}
	one.Rate.Events, one.Rate.Per, one.Rate.Burst = 10, 15*time.Minute, 10
	all := one
	all.Name, all.Per = "failed_logins_ip", PerIP
	all.Rate.Events, all.Rate.Burst = 100, 100
	return []Limit{one, all}
}

// orOff turns `off` into no listener.
func orOff(listen []string) []string {
	if len(listen) == 1 && listen[0] == "off" {
		return nil
	}
	return listen
}

func (k *checker) check() {
	k.checkHostname()
	k.checkListen()
	k.checkTLS()
	k.checkFront()
	k.checkUpstreams()
	k.checkPlaces()
	k.checkLogins()
	k.checkProviders()
	k.checkRules()
	k.checkTests()
	k.checkLimits()
	k.checkRedis()
	k.checkNumbers()
	k.checkWords()
}

func (k *checker) checkNumbers() {
	k.positive("idle_timeout", k.IdleTimeout)
	k.positive("shutdown_timeout", k.ShutdownTimeout)
	k.positive("cache.ttl", k.Cache.TTL)
	if t := time.Duration(k.Token.TTL); (t < time.Minute || t > time.Hour) && !k.refused("token.ttl") {
		k.bad("token.ttl", fmt.Sprintf("%v is out of bounds", k.Token.TTL), "write 1m to 1h")
	}
	k.between("cache.size", k.Cache.Size, 1, 10_000_000)
	k.between("limit_ip_prefix.v4", k.LimitIPPrefix.V4, 1, 32)
	k.between("limit_ip_prefix.v6", k.LimitIPPrefix.V6, 1, 128)
}

// refused reports whether the value at path has a problem already or is not known.
func (k *checker) refused(path string) bool { return k.absent(path) || len(k.problemsAt(path)) > 0 }

func (k *checker) positive(path string, d Duration) {
	if d <= 0 && !k.refused(path) {
		k.bad(path, "0 would end everything at once", "write a time such as 30s or 5m")
	}
}

func (k *checker) between(path string, n, low, high int) {
	if (n < low || n > high) && !k.refused(path) {
		k.bad(path, fmt.Sprintf("%d is out of bounds", n), fmt.Sprintf("write %d to %d", low, high))
	}
}

func (k *checker) checkWords() {
	k.word("catalog", k.Catalog, "filtered", "off")
	if k.Search && k.Catalog == "off" {
		k.bad("search", "true, but catalog is off, and what is found comes from there", "write catalog: filtered, or leave search out")
	}
	if k.Log.Format != "" {
		k.word("log.format", k.Log.Format, "json", "console")
	}
	k.word("log.level", k.Log.Level, "debug", "info", "warn", "error")
	k.logFile("log.access", k.Log.Access)
	k.logFile("log.audit", k.Log.Audit)
	for i, e := range k.Log.AuditEvents {
		k.word(k.entry("log.audit_events", i), e, "logins", "denials", "pulls", "pushes", "deletes", "revocations", "reloads")
	}
	if len(k.Contact) > 200 {
		k.bad("contact", "is longer than 200 bytes; it ends every refusal", "shorten it")
	}
}

// logFile refuses words that other programs know and that would be files here.
func (k *checker) logFile(path, dest string) {
	switch base := filepath.Base(dest); base {
	case "stderr", "syslog", "on", "yes", "no", "true", "false", "none", "null":
		k.bad(path, fmt.Sprintf("%q is not known here", base), "write off, stdout, or a file; ./"+base+".log for one of that name")
	}
}

// word refuses what is not one of a closed set.
func (k *checker) word(path, text string, known ...string) {
	if !slices.Contains(known, text) {
		k.refuseWord(path, text, known...)
	}
}

func (k *checker) refuseWord(path, text string, known ...string) {
	if k.refused(path) {
		return
	}
	msg, fix := explain(choice(text, known...))
	k.bad(path, msg, fix)
}

// entry is the path of one entry of a list that may be a single value.
func (k *checker) entry(path string, i int) string {
	if at := fmt.Sprintf("%s[%d]", path, i); k.given(at) {
		return at
	}
	return path
}

// required reports a key of an entry that is missing or an empty list. What
// was refused already is not reported twice.
func (k *checker) required(at, key string, there bool, fix string) {
	path := at + "." + key
	if there || len(k.problemsAt(path)) > 0 || k.absentBelow(path) {
		return
	}
	if k.given(path) {
		k.bad(path, "is empty", fix)
		return
	}
	k.bad(at, key+" is missing", fix)
}

// problemsAt are those reported for path or below it.
func (k *checker) problemsAt(path string) Problems {
	var out Problems
	for _, p := range k.problems {
		if p.Path == path || strings.HasPrefix(p.Path, path+"[") || p.Path == "" && p.Line == k.place(path).line {
			out = append(out, p)
		}
	}
	return out
}

// absentBelow reports whether something at path or in it is an unset variable.
func (k *checker) absentBelow(path string) bool {
	return slices.ContainsFunc(k.src.absent, func(at string) bool {
		return at == path || strings.HasPrefix(at, path+"[") || strings.HasPrefix(at, path+".")
	})
}
