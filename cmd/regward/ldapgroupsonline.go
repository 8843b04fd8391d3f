package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

// sayRuleGroups looks up the groups that rules and limits speak of: the directory
// takes Dev for dev, and they do not. A rule that denies somebody something would
// let them.
func sayRuleGroups(ctx context.Context, cfg *configs.Config, directory *auth.LDAP, say reporter) {
	l := &cfg.Auth.LDAP
	elsewhere := cfg.Auth.Webhook.URL != "" || slices.ContainsFunc(cfg.Auth.OIDC, func(o configs.OIDC) bool { return o.GroupsClaim != "" })
	asked := map[string]string{} // where each is first spoken of
	var names []string
	see := func(path string, subjects []auth.Subject) {
		for _, s := range subjects {
			name := s.Name()
			_, fixed := cfg.Groups[name]
			if s.Kind() != "group" || fixed || asked[name] != "" || slices.ContainsFunc(cfg.Auth.OIDC, func(o configs.OIDC) bool { return slices.Contains(o.Groups, name) }) {
				continue
			}
			asked[name], names = path, append(names, name)
		}
	}
	for i, r := range cfg.Rules {
		see(fmt.Sprintf("rules[%d].subjects", i), r.Subjects)
	}
	for i, limit := range cfg.Limits {
		see(fmt.Sprintf("limits[%d].subjects", i), limit.Subjects)
	}
	spelled, err := directory.Spelled(ctx, names)
	if err != nil {
		say(configs.Warning, "auth.ldap.group_base", err.Error(), "")
		return
	}
	for _, name := range names {
		switch as := spelled[name]; {
		case as == "" && !elsewhere:
			say(configs.Warning, asked[name], fmt.Sprintf("the directory has no group %q below %s with anybody in it", name, l.GroupBase), "write it as the directory spells it, or add it to groups")
		case as != "" && as != name:
			say(configs.Warning, asked[name], fmt.Sprintf("the directory spells the group %q %q, and rules tell the two apart", name, as), "write group:"+as)
		}
	}
}
