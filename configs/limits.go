package configs

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/regward/regward/ratelimit"
)

// maxTransfers bounds a limit of transfers, and maxBurst that of events.
const (
	maxTransfers = 1_000_000
	maxBurst     = 1_000_000_000
)

// countWords are the counts that the file may name.
func countWords() []string {
	return []string{"pulls", "pushes", "requests", "bytes", "transfers", "failed_logins"}
}

// readAmounts turns what limit i says of its rate and burst into numbers: which
// kind of number follows from what is counted.
func (k *checker) readAmounts(i int) {
	l, at := &k.Limits[i], fmt.Sprintf("limits[%d]", i)
	if l.RateText != "" {
		if err := l.readRate(); err != nil {
			msg, fix := explain(err)
			k.bad(at+".rate", msg, fix)
			l.Rate = ratelimit.Rate{}
		}
	}
	if l.BurstText == "" {
		if k.given(at+".burst") && !k.refused(at+".burst") {
			k.bad(at+".burst", "is empty", "leave it out")
		}
		return
	}
	burst, err := l.readBurst()
	if err != nil {
		msg, fix := explain(err)
		k.bad(at+".burst", msg, fix)
		return
	}
	if l.Rate.Events > 0 {
		l.Rate.Burst = burst
	}
}

func (l *Limit) readRate() (err error) {
	text := string(l.RateText)
	switch l.Count {
	case CountBytes:
		if l.Rate, err = ratelimit.ParseByteRate(text); err == nil {
			l.RateText = Amount(l.Rate.ByteString())
		}
	case CountTransfers:
		if l.Most, err = parseMost(text); err == nil {
			l.RateText = Amount(strconv.Itoa(l.Most))
		}
	default:
		if l.Rate, err = ratelimit.ParseRate(text); err == nil {
			l.RateText = Amount(l.Rate.String())
			return nil
		}
		if size, sizeErr := ratelimit.ParseByteRate(text); sizeErr == nil {
			if l.Count == "" { // what is counted is unknown, so this may be right
				return nil
			}
			number, _, _ := strings.Cut(text, "/")
			number = strings.TrimRight(number, "kKMGTiB")
			_, period, _ := strings.Cut(size.ByteString(), "/")
			return fault{fmt.Sprintf("%q is a size in a time, and %s are counted one by one", clip(text), l.Count), fmt.Sprintf("write \"%s/%s\", or count: bytes", number, period)}
		}
		if _, mostErr := parseMost(text); mostErr == nil && l.Count == "" {
			return nil
		}
	}
	return err
}

// parseMost reads how many transfers there may be at once.
func parseMost(text string) (int, error) {
	number, _, period := strings.Cut(text, "/")
	n, err := strconv.Atoi(strings.TrimSpace(number))
	switch {
	case err != nil && strings.Trim(number, "0123456789") != "":
		return 0, fault{fmt.Sprintf("%q is no number of transfers", clip(text)), "write how many may run at once, as a plain number: 8"}
	case err != nil || n > maxTransfers:
		return 0, fault{fmt.Sprintf("%q is more than %d transfers at once", clip(text), maxTransfers), "write a smaller number, or leave the limit out"}
	case n < 1:
		return 0, fault{fmt.Sprintf("%q lets nobody transfer anything", clip(text)), "write a number above zero; to refuse somebody, write a rule with deny"}
	case period:
		return 0, fault{fmt.Sprintf("%q has a period, and transfers are those that run at once", clip(text)), fmt.Sprintf("write %d, or count: pulls", n)}
	}
	return n, nil
}

func (l *Limit) readBurst() (int, error) {
	text := string(l.BurstText)
	switch l.Count {
	case CountTransfers:
		return 0, fault{"transfers are those that run at once: they have no burst", "leave it out"}
	case CountBytes:
		n, err := ratelimit.ParseBytes(text)
		if err == nil {
			l.BurstText = Amount(ratelimit.FormatBytes(n))
		}
		return n, err
	}
	n, err := parseInt(text)
	switch {
	case err != nil:
		if l.Count == "" {
			if size, sizeErr := ratelimit.ParseBytes(text); sizeErr == nil {
				return size, nil
			}
		}
		return 0, fault{err.Error(), fmt.Sprintf("write how many %s may come at once", cmp.Or(string(l.Count), "events"))}
	case n < 1:
		return 0, fault{fmt.Sprintf("%d would let nobody through", n), "leave it out for the rate's own count"}
	case n > maxBurst:
		return 0, fault{fmt.Sprintf("is more than %d", maxBurst), "write a smaller one"}
	}
	return n, nil
}

var limitName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

func (k *checker) checkLimits() {
	seen := map[string]string{}
	for i, l := range k.Limits {
		at := fmt.Sprintf("limits[%d]", i)
		if l.Where == "built in" {
			if other, taken := seen[l.Name]; taken {
				k.bad(other+".name", fmt.Sprintf("%q is the name of a built in limit", l.Name), "choose another one")
			}
			continue
		}
		if !k.given(at) {
			continue
		}
		k.required(at, "name", l.Name != "", "give it a name: it is shown in logs and metrics")
		k.required(at, "count", l.Count != "", "write count: "+orList(countWords()))
		k.required(at, "rate", l.RateText != "", map[Count]string{CountBytes: "write rate: 20MB/s", CountTransfers: "write rate: 8"}[l.Count])
		if l.Name != "" && !limitName.MatchString(l.Name) {
			k.bad(at+".name", fmt.Sprintf("%q is no name for a limit", clip(l.Name)), "use letters, digits and . _ -")
		}
		if other, taken := seen[l.Name]; taken && l.Name != "" {
			k.bad(at+".name", fmt.Sprintf("%q is the name of %s already", l.Name, other), "choose another one: a reload knows limits by their names")
		} else {
			seen[l.Name] = at
		}
		k.checkAudience(at, l)
	}
}

// checkAudience looks at whom a limit counts.
func (k *checker) checkAudience(at string, l Limit) {
	if l.Count == CountFailedLogins {
		if l.Per == PerGroup || l.Per == PerNamespace || l.Per == PerRepository {
			k.bad(at+".per", fmt.Sprintf("%s, but a failed login has none", l.Per), "write client, user, ip or all")
		}
		if len(l.Repositories) > 0 {
			k.bad(at+".repositories", "a failed login is about no repository", "leave it out")
		}
		if len(l.Subjects) > 0 {
			k.bad(at+".subjects", "whose login failed is not known: anybody can type a name", "leave it out, or choose by from")
		}
		if len(l.Exempt.Subjects) > 0 {
			k.bad(at+".exempt", fmt.Sprintf("%s: whose login failed is not known, anybody can type a name", l.Exempt.Subjects[0]), "exempt networks: 10.0.0.0/8")
		}
	}
	for _, key := range []string{"subjects", "repositories", "from"} {
		empty := map[string]bool{"subjects": len(l.Subjects) == 0, "repositories": len(l.Repositories) == 0, "from": len(l.From) == 0}[key]
		if k.given(at+"."+key) && empty && len(k.problemsAt(at+"."+key)) == 0 && !k.absentBelow(at+"."+key) {
			k.bad(at+"."+key, "an empty list", "leave it out")
		}
	}
}
