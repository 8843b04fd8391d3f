package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// explainLogin has regward log in with a password, and say who said what.
func (e *everyLogin) explainLogin(t *testing.T, user, password string) outcome {
	t.Helper()
	o := commandWithInput(t, nil, password, suite.regward, "--config", e.file, "explain", "--user", user, "--password-stdin")
	if strings.Contains(o.out, password) {
		t.Errorf("the password of %s is in\n%s", user, o.out)
	}
	return o
}

// Every provider speaks for itself, in the order in which they are asked; nobody
// is locked out by what is only explained; and what one cannot say is not asked of
// the next.
func TestExplainLogsInWithEveryProvider(t *testing.T) {
	t.Parallel()
	e := startEveryLogin(t)
	e.explainLogin(t, "fay", "fay-secret").works(t).says(t, "robot     not mine", "oidc:ci   not mine", "htpasswd  right: fay")
	e.explainLogin(t, "ann", passwords["ann"]).works(t).says(t, "htpasswd  not mine: it does not know ann", "ldap      right: ann, groups ", "ldap says the password of ann is right")
	e.explainLogin(t, "reader", passwords["reader"]).works(t).says(t, "ldap      not mine", "webhook   right: reader")
	e.explainLogin(t, "oidc", e.jobToken(t)).works(t).says(t, "oidc:ci  right: ci/job", "speaks for ci/job")
	e.explainLogin(t, "oidc", e.issuer.token(e.issuer.claims(nil, "elsewhere"))).fails(t, "wrong: the token is for \"elsewhere\"")
	e.explainLogin(t, e.robot.Name, e.robot.Secret).works(t).says(t, "robot  right: "+e.robot.Name)
	e.explainLogin(t, "nobody", "any-password").fails(t, "no provider knows nobody: clients get 401")
	for n := range 12 { // more than lock somebody out
		e.explainLogin(t, "ann", fmt.Sprintf("wrong-password-%d", n)).fails(t, "ldap      wrong: wrong password", "clients get 401")
	}
	e.guessed(t, "ann", passwords["ann"]).is(t, 200)
	e.slapd.kill()
	e.explainLogin(t, "ann", passwords["ann"]).fails(t, "ldap      cannot say: ", "clients get 503", "ldap cannot say whether the login is good", "regward validate --online")
	e.explainLogin(t, "fay", "fay-secret").works(t).says(t, "htpasswd  right: fay")
	if o := e.explainLogin(t, "reader", passwords["reader"]).fails(t, "ldap      cannot say"); strings.Contains(o.out, "webhook   right") {
		t.Errorf("the next one is asked about a name that may be the directory's:\n%s", o.out)
	}
}
