package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/regward/regward/proxy"
)

// What log.audit_events chooses has to be what the program writes: each event
// is chosen by one word, and each word chooses some.
func TestAuditEventsChooseWhatIsWritten(t *testing.T) {
	var chosen []string
	for _, word := range []string{"logins", "denials", "pulls", "pushes", "deletes", "reloads", "revocations"} {
		events := auditEvents([]string{word})
		if len(events) == 0 {
			t.Errorf("%s chooses nothing", word)
		}
		chosen = append(chosen, events...)
	}
	written := slices.Clone(proxy.AuditEvents[:])
	slices.Sort(chosen)
	slices.Sort(written)
	if !slices.Equal(chosen, written) {
		t.Errorf("log.audit_events chooses %q, the program writes %q", chosen, written)
	}
}

func TestAuditEventsReachTheLog(t *testing.T) {
	config := strings.Replace(standard, `audit: "off"`, "audit: stdout, audit_events: [denials, pulls]", 1)
	r := begin(t, config, nil, nil)
	r.ask("GET", r.public()+"/v2/library/app/manifests/v1", "ann", "ann-secret") // a login, which was not chosen, and a pull
	r.ask("GET", r.public()+"/v2/other/app/manifests/v1", "ann", "ann-secret")
	r.log.await(t, `"msg":"pull"`, 1)
	r.log.await(t, `"msg":"denied"`, 1)
	if strings.Contains(r.log.String(), `"msg":"login"`) {
		t.Errorf("a login is told, and audit_events does not have logins:\n%s", r.log.String())
	}
}
