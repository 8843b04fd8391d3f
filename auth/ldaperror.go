package auth

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// LDAPError is what kept a directory from answering.
type LDAPError struct {
	Server string // its URL
	Step   string // connect, starttls, tls, bind (regward's own), login, user_base or group_base (the search below)
	Code   uint16 // of RFC 4511, A.2; 0 without an answer
	Err    error  // in its words
}

func (e *LDAPError) Error() string {
	doing := map[string]string{
		"connect": "cannot be reached", "starttls": "does not start TLS", "tls": "cannot be trusted", "bind": "does not take bind_dn and bind_password",
		"login": "cannot check a password", "user_base": "cannot search below user_base", "group_base": "cannot search below group_base",
	}[e.Step]
	if errors.Is(e.Err, context.DeadlineExceeded) {
		doing = "does not answer"
	}
	if e.Code != 0 {
		text := fmt.Sprintf("ldap: %s %s: %s (%d)", e.Server, doing, ldap.LDAPResultCodeMap[e.Code], e.Code)
		if words := e.Err.Error(); words != `""` { // most servers say no more
			text += ": " + words
		}
		return text
	}
	return fmt.Sprintf("ldap: %s %s: %v", e.Server, doing, e.Err)
}

// Unwrap has ErrUnavailable among what it returns unless the server knows the
// person and has something against the login, or says too much.
func (e *LDAPError) Unwrap() []error {
	if e.Step == "login" && !gone(e) || errors.Is(e.Err, errLDAPAnswer) {
		return []error{e.Err}
	}
	return []error{e.Err, ErrUnavailable}
}

// failed says what went wrong at which step. It keeps nothing of the library's
// error but its words: within are packets.
func (s *ldapServer) failed(step string, err error) error {
	e := &LDAPError{Server: s.url, Step: step, Err: err}
	var answer *ldap.Error
	if errors.As(err, &answer) {
		e.Err = answer.Err
		if answer.ResultCode < ldap.ErrorNetwork { // not one that the library makes up
			e.Code, e.Err = answer.ResultCode, errors.New(shorten(answer.Err.Error()))
		}
	}
	return e
}

// gone reports whether the server rather than its data is the trouble: another
// one is asked.
func gone(err error) bool {
	var e *LDAPError
	if !errors.As(err, &e) {
		return false
	}
	return e.Code == ldap.LDAPResultBusy || e.Code == ldap.LDAPResultUnavailable || e.Code == 0 && !errors.Is(e.Err, errLDAPAnswer)
}

// windowsReason finds what Active Directory means by 49, invalidCredentials.
var windowsReason = regexp.MustCompile(`AcceptSecurityContext error, data ([0-9a-f]{3,4})\b`)

// refusal is what the answer to a person's bind means: an ErrRejected, with a
// reason where the password may be right, or what kept the directory from saying.
func (s *ldapServer) refusal(answer *ldap.SimpleBindResult, err error) error {
	if why := policyReason(answer); why != "" {
		return &Rejection{viaLDAP, why, Barred}
	}
	if err == nil {
		return nil
	}
	var e *ldap.Error
	if !errors.As(err, &e) || e.ResultCode >= ldap.ErrorNetwork {
		return s.failed("login", err)
	}
	switch text := e.Err.Error(); e.ResultCode {
	case ldap.LDAPResultInvalidCredentials:
		if m := windowsReason.FindStringSubmatch(text); m != nil {
			if why := windowsReasonOf(m[1]); why != "" {
				return &Rejection{viaLDAP, why, Barred}
			}
		}
		return fmt.Errorf("ldap: wrong password: %w", ErrRejected)
	case ldap.LDAPResultInappropriateAuthentication:
		return &Rejection{viaLDAP, "the account has no password", Barred}
	case ldap.LDAPResultNoSuchObject:
		return &Rejection{viaLDAP, "the account is gone", Barred}
	case ldap.LDAPResultConstraintViolation: // 389 Directory Server: too many wrong passwords
		return &Rejection{viaLDAP, "the account is locked", Barred}
	case ldap.LDAPResultUnwillingToPerform: // 389 Directory Server, of an account; of others it is about the server
		if inactivated.MatchString(text) {
			return &Rejection{viaLDAP, "the account is disabled", Barred}
		}
	}
	return s.failed("login", err)
}

var inactivated = regexp.MustCompile(`(?i)inactivated|disabled|locked`)

// windowsReasonOf reads the codes of Windows (winerror.h); "" for a wrong name or
// password.
func windowsReasonOf(code string) string {
	return map[string]string{
		"530": "the account may not log in at this time",
		"531": "the account may not log in from here",
		"532": "the password has expired",
		"533": "the account is disabled",
		"701": "the account has expired",
		"773": "the password has to be changed first",
		"775": "the account is locked",
	}[code]
}

// policyReason reads what a password policy adds to an answer
// (draft-behera-ldap-password-policy, draft-vchu-ldap-pwd-policy); a password that
// has to be changed is accepted for that alone.
func policyReason(answer *ldap.SimpleBindResult) string {
	if answer == nil {
		return ""
	}
	for _, control := range answer.Controls {
		switch c := control.(type) {
		case *ldap.ControlBeheraPasswordPolicy:
			switch c.Error {
			case -1:
			case 0:
				return "the password has expired"
			case 1:
				return "the account is locked"
			case 2:
				return "the password has to be changed first"
			default:
				return "the directory's password policy says no"
			}
		case *ldap.ControlVChuPasswordMustChange:
			return "the password has to be changed first"
		}
	}
	return ""
}

// ldapDown is what each of several servers that cannot be asked says, in one line
// for logs and answers.
type ldapDown []error

func (e ldapDown) Error() string {
	all := make([]string, len(e))
	for i, err := range e {
		all[i] = err.Error()
	}
	return strings.Join(all, "; ")
}

// Unwrap lists them one by one.
func (e ldapDown) Unwrap() []error { return e }
