package tls

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// Waits after failures in a row. A try that the CA has validated, or refused,
// counts with it: Let's Encrypt allows five failed ones in an hour. One that did
// not get that far costs nobody anything.
var (
	afterRefusal = [...]time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 6 * time.Hour}
	afterOutage  = [...]time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute}
)

// retryAfter is how Let's Encrypt says when it may be asked again.
var retryAfter = regexp.MustCompile(`retry after (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC`)

// maxPatience bounds what a CA can make us wait.
const maxPatience = 7 * 24 * time.Hour

// counts reports whether the CA counts what failed with err.
func (try *attempt) counts(err error) bool {
	var problem acme.Problem
	var useless *uselessError
	refused := errors.As(err, &problem) && strings.HasPrefix(problem.Type, acme.ProblemTypeNamespace) &&
		problem.Type != acme.ProblemTypeServerInternal && problem.Type != acme.ProblemTypeBadNonce
	return refused || len(try.challenges) > 0 || errors.As(err, &useless)
}

// wait is how long to leave the CA alone after so many failures in a row.
func (try *attempt) wait(err error, failures int, now time.Time) time.Duration {
	if !try.counts(err) {
		return afterOutage[min(failures, len(afterOutage))-1]
	}
	var problem acme.Problem
	errors.As(err, &problem)
	d := afterRefusal[min(failures, len(afterRefusal))-1]
	if problem.Type == acme.ProblemTypeRateLimited {
		d = max(d, time.Hour)
		if at := retryAfter.FindStringSubmatch(problem.Detail); at != nil {
			if end, err := time.Parse("2006-01-02 15:04:05", at[1]); err == nil {
				d = max(time.Minute, end.Sub(now)+time.Minute)
			}
		}
	}
	return min(d, maxPatience)
}

// rest is how long to leave the CA alone while each certificate is due for
// renewal as it arrives, after as many of them as soon says: the clock may be
// wrong here, or what the CA suggests. The first one is renewed at once.
func rest(lifetime time.Duration, soon int) time.Duration {
	if soon == 0 {
		return 0
	}
	return min(afterRefusal[min(soon, len(afterRefusal))-1], lifetime/8)
}

// askedTries is how many tries that count with the CA may be made early within an
// hour, as reloads ask for them: a reload may be about something else.
const askedTries = 3

// earlyTries are the tries of the last hour that were made early.
type earlyTries []time.Time

func (a *earlyTries) grant(now time.Time) bool {
	*a = slices.DeleteFunc(*a, func(at time.Time) bool { return now.Sub(at) >= time.Hour })
	if len(*a) >= askedTries {
		return false
	}
	*a = append(*a, now)
	return true
}
