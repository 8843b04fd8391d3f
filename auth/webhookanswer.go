package auth

import (
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// answer is what a webhook says of a login that is good.
type answer struct {
	user    string
	groups  []string
	limited bool // ttl was given
	ttl     time.Duration
}

// maxAnswerTTL bounds a ttl: more is no more, for token.ttl is an hour at most.
const maxAnswerTTL = 24 * time.Hour

// readAnswer reads the body of a 200 about a user. Members that are not known are
// passed over. The error goes on from "its answer".
func readAnswer(body []byte, asked string, caseSensitive bool) (a answer, err error) {
	members, err := readObject(body)
	if err != nil {
		return a, err
	}
	given := func(name string) (json.RawMessage, bool) {
		raw, there := members[name]
		return raw, there && string(raw) != "null"
	}
	a.user = asked
	if raw, there := given("user"); there {
		name, ok := textOf(raw)
		if !ok {
			return a, errors.New("has a user that is no text")
		}
		if name != "" {
			a.user = name
		}
	}
	if err := checkPerson(a.user, caseSensitive); err != nil {
		return a, err
	}
	if !caseSensitive {
		a.user = strings.ToLower(a.user)
	}
	if raw, there := given("groups"); there {
		groups, ok := textsOf(raw)
		if !ok {
			return a, errors.New("has groups that are no list of texts")
		}
		if a.groups, err = checkGroups(groups); err != nil {
			return a, err
		}
	}
	if raw, there := given("ttl"); there {
		var seconds float64
		if json.Unmarshal(raw, &seconds) != nil || seconds < 0 {
			return a, errors.New("has a ttl that is no number of seconds")
		}
		a.limited = true
		a.ttl = time.Duration(min(seconds, maxAnswerTTL.Seconds()) * float64(time.Second))
	}
	return a, nil
}
