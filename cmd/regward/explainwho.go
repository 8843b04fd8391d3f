package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/regward/regward/auth"
)

// rights is what explain prints as JSON about one caller.
type rights struct {
	Caller string      `json:"caller"`
	Login  string      `json:"login,omitempty"`
	Logins []loginSaid `json:"logins,omitempty"`
	Pull   []string    `json:"pull"`
	Push   []string    `json:"push"`
	Delete []string    `json:"delete"`
	Except []string    `json:"except"` // rules that deny some of it, or keep tags from being moved
}

func (a *app) explainCaller(x *explainer) error {
	r := rights{Caller: x.caller.String(), Login: x.provider, Logins: x.logins, Pull: []string{}, Push: []string{}, Delete: []string{}, Except: []string{}}
	if !x.rejected {
		r.Pull = append(r.Pull, x.settings.Policy.Patterns(&x.caller, auth.Pull)...)
		r.Push = append(r.Push, x.settings.Policy.Patterns(&x.caller, auth.Push)...)
		r.Delete = append(r.Delete, x.settings.Policy.Patterns(&x.caller, auth.Delete)...)
		for _, rule := range x.cfg.PolicyRules() {
			means := func(s auth.Subject) bool { return s.Matches(&x.caller) }
			if (rule.Deny != 0 || rule.Immutable) && slices.ContainsFunc(rule.Subjects, means) {
				r.Except = append(r.Except, rule.Where+": "+rule.String())
			}
		}
	}
	if a.json() {
		if err := a.printJSON(r); err != nil {
			return err
		}
	} else {
		printLogins(a.stdout, r.Logins)
		if r.Login != "" {
			fmt.Fprintln(a.stdout, r.Login)
		}
		fmt.Fprintf(a.stdout, "%s may\n", r.Caller)
		for i, list := range [][]string{r.Pull, r.Push, r.Delete} {
			text := strings.Join(list, ", ")
			if text == "" {
				text = "nothing"
			}
			fmt.Fprintf(a.stdout, "  %-7s %s\n", actions()[i], text)
		}
		for _, line := range r.Except {
			fmt.Fprintf(a.stdout, "  except  %s\n", line)
		}
	}
	return x.end()
}

// whoMay is what explain prints as JSON about one repository and action.
type whoMay struct {
	Action string   `json:"action"`
	Who    []string `json:"who"`
	Not    []string `json:"not"` // users who would be among them, but are denied
}

func (a *app) explainWho(x *explainer, q question) error {
	asked := actions()
	if q.action != "" {
		action, err := parseAction(q.action)
		if err != nil {
			return err
		}
		asked = []auth.Action{action}
	}
	if x.robotsUnread != nil {
		fmt.Fprintf(a.stderr, "regward: robots are not among these: %v\n", x.robotsUnread)
	}
	all := make([]whoMay, 0, len(asked))
	for _, action := range asked {
		all = append(all, x.who(q, action))
	}
	if a.json() {
		return a.printJSON(all)
	}
	_, where := x.find(q.repository)
	what := q.repository
	if q.tag != "" {
		what += ":" + q.tag
	}
	fmt.Fprintln(a.stdout, what)
	for _, line := range where.words() {
		fmt.Fprintf(a.stdout, "  %s\n", line)
	}
	if why := x.refusedBy(q.repository, auth.Pull); why != "" {
		fmt.Fprintf(a.stdout, "  %s\n", why)
	}
	for _, w := range all {
		who := strings.Join(w.Who, ", ")
		if who == "" {
			who = "nobody"
		}
		if len(w.Not) > 0 {
			who += "; not " + strings.Join(w.Not, ", ")
		}
		fmt.Fprintf(a.stdout, "  %-7s %s\n", w.Action, who)
	}
	return nil
}

// who lists those whom rules and groups name: kinds of callers first, then
// groups, then the users who are in none of them.
func (x *explainer) who(q question, action auth.Action) whoMay {
	w := whoMay{Action: action.String(), Who: []string{}, Not: []string{}}
	if x.refusedBy(q.repository, action) != "" {
		return w
	}
	want := x.access(q, action)
	may := func(id auth.Identity) bool {
		return x.settings.Policy.Decide(&auth.Caller{Identity: id, Addr: x.caller.Addr}, []auth.Access{want}).Allowed()
	}
	anyone, login := may(auth.Identity{}), may(auth.Identity{Name: somebody})
	switch {
	case anyone && login:
		w.Who = append(w.Who, "everyone")
	case anyone:
		w.Who = append(w.Who, "anonymous")
	case login:
		w.Who = append(w.Who, "every login")
	}
	groups, users := x.named(want.Repository)
	byGroup := x.members()
	covered := map[string]bool{}
	for _, g := range groups {
		if !may(auth.Identity{Name: somebody, Groups: []string{g}}) {
			continue
		}
		members := byGroup[g]
		for _, u := range members {
			covered[u] = true
		}
		if !login {
			w.Who = append(w.Who, strings.TrimSpace("group "+g+" "+parens(append(slices.Clone(members), x.tokensOf(g)...))))
		}
	}
	for _, u := range users {
		switch allowed := may(x.identity(u, nil)); {
		case allowed && !login && !covered[u]:
			w.Who = append(w.Who, u)
		case !allowed && (login || covered[u]):
			w.Not = append(w.Not, u)
		}
	}
	x.whichRobots(&w, anyone && login, may)
	return w
}

// whichRobots lists the robots that may: of everybody they are, unless a rule
// says otherwise.
func (x *explainer) whichRobots(w *whoMay, everybody bool, may func(auth.Identity) bool) {
	if x.cfg.Auth.Robots == nil {
		return
	}
	for i := range x.cfg.Auth.Robots.Robots {
		r := &x.cfg.Auth.Robots.Robots[i]
		id, _ := x.cfg.Auth.Robots.Identity(r.Login())
		switch allowed := may(id); {
		case allowed && robotFault(r, x.caller.Addr) != "":
			w.Not = append(w.Not, r.Login()+" ("+robotFault(r, x.caller.Addr)+")")
		case allowed && !everybody:
			w.Who = append(w.Who, r.Login())
		case !allowed && everybody:
			w.Not = append(w.Not, r.Login())
		}
	}
}

// tokensOf names the issuers whose tokens are all in a group.
func (x *explainer) tokensOf(group string) (names []string) {
	for _, o := range x.cfg.Auth.OIDC {
		if slices.Contains(o.Groups, group) {
			names = append(names, "all tokens of "+o.Name)
		}
	}
	return names
}

func parens(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "(" + strings.Join(names, ", ") + ")"
}

// named are the groups and users that the configuration names, and those that
// {group} and {user} can stand for in the repository's name; sorted.
func (x *explainer) named(repository string) (groups, users []string) {
	g, u := map[string]bool{}, map[string]bool{}
	for name := range x.cfg.Groups {
		g[name] = true
	}
	for name := range x.settings.Groups {
		u[name] = true
	}
	parts := strings.Split(repository, "/")
	for _, r := range x.cfg.Rules {
		for _, p := range r.Repositories {
			for _, part := range parts {
				if strings.Contains(p.String(), "{group}") {
					g[part] = true
				}
				if strings.Contains(p.String(), "{user}") {
					u[part] = true
				}
			}
		}
		for _, s := range r.Subjects {
			switch s.Kind() {
			case "group":
				g[s.Name()] = true
			case "user":
				u[s.Name()] = true
			}
		}
	}
	return sortedKeys(g), sortedKeys(u)
}

// members are the users that groups puts into each group, sorted.
func (x *explainer) members() map[string][]string {
	by := map[string][]string{}
	for _, user := range sortedKeys(x.settings.Groups) {
		for _, g := range x.settings.Groups[user] {
			by[g] = append(by[g], user)
		}
	}
	return by
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
