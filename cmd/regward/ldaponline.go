package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

// checkLDAP asks the directory what the file cannot say: whether each server is
// there, shows a certificate that can be believed and takes the login, and whether
// people and groups are where the file says.
func checkLDAP(ctx context.Context, cfg *configs.Config, say reporter) {
	directory, err := buildLDAP(cfg, nil, nil)
	if err != nil || directory == nil {
		if err != nil {
			say(configs.Error, "auth.ldap", err.Error(), "")
		}
		return
	}
	ctx, cancel := context.WithTimeout(ctx, onlineFor)
	defer cancel()
	found := directory.Probe(ctx)
	how := configs.Error
	if found.Answers {
		how = configs.Warning // the others go on without it
	}
	for _, err := range found.Servers {
		if err != nil {
			path, fix := ldapServerFix(err)
			say(how, path, err.Error(), fix)
		}
	}
	if found.Answers {
		sayPeople(&cfg.Auth.LDAP, found, say)
		sayGroups(&cfg.Auth.LDAP, found, say)
	}
	if found.Answers && found.Titled && found.GroupBase == nil {
		sayRuleGroups(ctx, cfg, directory, say)
	}
}

// ldapServerFix says which key helps, where one does.
func ldapServerFix(err error) (path, fix string) {
	var (
		e       *auth.LDAPError
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
		dns     *net.DNSError
	)
	if !errors.As(err, &e) {
		return "auth.ldap", ""
	}
	const url = "auth.ldap.url"
	hasNoTLS := "if that port speaks no TLS from the start, write ldap:// and starttls: true; ldaps has port 636"
	for _, known := range []struct {
		when      bool
		path, fix string
	}{
		{errors.As(err, &unknown), "auth.ldap.ca_file", "name the CA that its certificate comes from in auth.ldap.ca_file"},
		{errors.As(err, &name), url, "write a name that the certificate has" + namesOf(name.Certificate)},
		{errors.As(err, &invalid) && invalid.Reason == x509.Expired, url, "renew the directory's certificate; if it is good, set this machine's clock"},
		{errors.As(err, &dns), url, "check the name in auth.ldap.url"},
		{errors.As(err, &record), url, hasNoTLS},
		{e.Step == "tls" && errors.Is(err, io.EOF), url, hasNoTLS},
		{e.Step != "connect" && late(err), url, "is it overloaded, or stopped? " + strings.ToUpper(hasNoTLS[:1]) + hasNoTLS[1:]},
		{e.Step == "starttls" && e.Code != 0, url, "give the directory a certificate, or write ldaps://"},
		{e.Step == "starttls", url, "if that port speaks TLS from the start, write ldaps://, without starttls"},
		{e.Step == "connect", url, "is it running, and may this host reach it? ldaps has port 636, ldap with starttls 389"},
		{e.Code == ldap.LDAPResultInvalidCredentials, "auth.ldap.bind_password", "check auth.ldap.bind_dn and auth.ldap.bind_password"},
		{e.Code == ldap.LDAPResultInvalidDNSyntax, "auth.ldap.bind_dn", "write a DN, as cn=regward,ou=services,dc=example,dc=com"},
		{e.Step == "bind" && e.Code != 0, "auth.ldap.bind_dn", "ask the directory's log what it has against auth.ldap.bind_dn"},
	} {
		if known.when {
			return known.path, known.fix
		}
	}
	return url, ""
}

// namesOf lists what a certificate is for.
func namesOf(c *x509.Certificate) string {
	if c == nil {
		return ""
	}
	names := c.DNSNames
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return ""
	}
	return ": " + strings.Join(names[:min(len(names), 5)], ", ")
}

func sayPeople(l *configs.LDAP, found auth.LDAPProbe, say reporter) {
	const filter = "auth.ldap.user_filter"
	switch {
	case found.UserBase != nil:
		say(configs.Error, "auth.ldap.user_base", found.UserBase.Error(), baseFix(found.UserBase, l.UserBase, "people"))
	case found.MadeUp:
		say(configs.Error, filter, fmt.Sprintf("user_filter %s finds somebody for a made-up name: any name would be somebody's", l.UserFilter), "write a filter that compares {user} with an attribute: (uid={user})")
	case !found.People:
		say(configs.Error, filter, fmt.Sprintf("user_filter %s finds nobody below %s", l.UserFilter, l.UserBase), "write the attribute that names are in, uid in OpenLDAP, sAMAccountName in Active Directory, and let "+whoSearches(l)+" read it")
	case !found.Named:
		say(configs.Error, "auth.ldap.user_name", fmt.Sprintf("whom user_filter finds has no attribute %s, at least one of them", l.UserName), "write the one that user_filter compares with, as user_name: sAMAccountName in Active Directory")
	case found.Twice != "":
		say(configs.Error, filter, fmt.Sprintf("user_filter %s finds more than one entry for %q: with that name nobody can log in", l.UserFilter, found.Twice), "compare {user} with an attribute that no two people share, or narrow user_base")
	}
}

func sayGroups(l *configs.LDAP, found auth.LDAPProbe, say reporter) {
	switch {
	case l.GroupBase == "":
	case found.GroupBase != nil:
		say(configs.Error, "auth.ldap.group_base", found.GroupBase.Error(), baseFix(found.GroupBase, l.GroupBase, "groups"))
	case !found.Groups:
		say(configs.Warning, "auth.ldap.group_filter", fmt.Sprintf("group_filter %s finds no group with anybody in it below %s", l.GroupFilter, l.GroupBase),
			"groupOfNames and Active Directory want (member={dn}), groupOfUniqueNames (uniqueMember={dn}), posixGroup (memberUid={user}); and let "+whoSearches(l)+" read it")
	case !found.Titled:
		say(configs.Error, "auth.ldap.group_name", fmt.Sprintf("a group that group_filter finds has no attribute %s", l.GroupName), "write the one that has the name: cn")
	}
}

// baseFix is for a base that cannot be searched.
func baseFix(err error, base, what string) string {
	var e *auth.LDAPError
	if !errors.As(err, &e) {
		return ""
	}
	switch e.Code {
	case ldap.LDAPResultNoSuchObject:
		return fmt.Sprintf("%s does not exist, or is not shown to this login: write where the %s are", base, what)
	case ldap.LDAPResultInvalidDNSyntax:
		return "write a DN, as ou=" + what + ",dc=example,dc=com"
	case ldap.LDAPResultReferral:
		return "that part of the tree is on another server, and referrals are not followed: name that one in auth.ldap.url"
	case ldap.LDAPResultInsufficientAccessRights, ldap.LDAPResultOperationsError, ldap.LDAPResultStrongAuthRequired:
		return "set auth.ldap.bind_dn and auth.ldap.bind_password of an account that may read it"
	}
	return ""
}

func whoSearches(l *configs.LDAP) string {
	if l.BindDN == "" {
		return "anybody"
	}
	return l.BindDN
}
