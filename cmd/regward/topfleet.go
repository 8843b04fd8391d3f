package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/regward/regward/fleet"
	"github.com/regward/regward/proxy"
)

// What an instance tells the others of its busiest, with every sign of life.
const (
	topTold  = 20      // of each kind
	maxBrief = 6 << 10 // bytes; fewer are told of where that is not enough

	mostFigure = 1e15 // a figure beyond is nonsense
	mebibyte   = 1 << 20
)

// briefTop is who does most at one instance, with names as short as Redis'
// memory asks for. An instance of another version may know others.
type briefTop struct {
	Clients    []briefTalker `json:"c,omitempty"`
	Namespaces []briefTalker `json:"n,omitempty"`
	Limits     []briefLimit  `json:"l,omitempty"`
}

// briefTalker is a talker.
type briefTalker struct {
	Name      string  `json:"n"`
	Requests  float64 `json:"r,omitzero"`
	Pulls     float64 `json:"p,omitzero"`
	Pushes    float64 `json:"u,omitzero"`
	BytesIn   float64 `json:"i,omitzero"`
	BytesOut  float64 `json:"o,omitzero"`
	Throttled float64 `json:"t,omitzero"`
	Would     float64 `json:"w,omitzero"`
}

// briefLimit is a topLimit.
type briefLimit struct {
	Name      string  `json:"n"`
	Throttled float64 `json:"t,omitzero"`
	Would     float64 `json:"w,omitzero"`
}

// topForOthers is what the other instances may add up.
func (s *server) topForOthers() json.RawMessage {
	if s.shared.client == nil {
		return nil
	}
	return briefly(s.handler.Top(topTold))
}

// briefly writes who does most in at most maxBrief bytes.
func briefly(top proxy.Top) json.RawMessage {
	for n := topTold; n > 0; n /= 2 {
		var b briefTop
		for _, t := range talkers(top.Clients[:min(n, len(top.Clients))]) {
			b.Clients = append(b.Clients, briefTalker(t))
		}
		for _, t := range talkers(top.Namespaces[:min(n, len(top.Namespaces))]) {
			b.Namespaces = append(b.Namespaces, briefTalker(t))
		}
		for _, t := range topLimits(top.Limits[:min(n, len(top.Limits))]) {
			b.Limits = append(b.Limits, briefLimit(t))
		}
		if raw, err := json.Marshal(b); err == nil && len(raw) <= maxBrief {
			return raw
		}
	}
	return json.RawMessage("{}")
}

// addOthers adds what the other instances tell of themselves, as of their last
// sign of life, and says whose figures are missing. With here they are only
// counted.
func (t *topAnswer) addOthers(r *http.Request, f *fleet.Fleet, here bool, most int) {
	list, err := f.Instances(r.Context())
	t.Instances, t.Heard = len(list), 1
	if err != nil {
		t.Missing = "Redis cannot be asked about the others"
		return
	}
	if here {
		return
	}
	var silent []string
	names := instanceNames(list)
	for n, i := range list {
		switch {
		case i.Self:
		case i.Seen <= silence && t.add(i.Top, most):
			t.Heard++
		default:
			silent = append(silent, names[n]+" (regward "+cmp.Or(i.Version, "of no known version")+")")
		}
	}
	const named = 3
	if n := len(silent) - named; n > 0 {
		silent = append(silent[:named], plural(n, "other"))
	}
	if len(silent) > 0 {
		t.Missing = strings.Join(silent, ", ") + map[bool]string{true: " does not tell", false: " do not tell"}[len(silent) == 1]
	}
}

// add adds what one instance told, the busiest first again and at most so many
// of each. It reports whether it told anything; what makes no sense is left out.
func (t *topAnswer) add(raw json.RawMessage, most int) bool {
	var b briefTop
	if len(raw) == 0 || string(raw) == "null" || json.Unmarshal(raw, &b) != nil {
		return false
	}
	t.Clients = addTalkers(t.Clients, b.Clients, most)
	t.Namespaces = addTalkers(t.Namespaces, b.Namespaces, most)
	at := map[string]int{}
	for i, l := range t.Limits {
		at[l.Name] = i
	}
	for _, l := range b.Limits {
		if l.Name == "" || !sane(l.Throttled, l.Would) {
			continue
		}
		i, ok := at[l.Name]
		if !ok {
			i, at[l.Name] = len(t.Limits), len(t.Limits)
			t.Limits = append(t.Limits, topLimit{Name: l.Name})
		}
		t.Limits[i].Throttled = tenths(t.Limits[i].Throttled + l.Throttled)
		t.Limits[i].Would = tenths(t.Limits[i].Would + l.Would)
	}
	slices.SortStableFunc(t.Limits, func(a, b topLimit) int {
		return cmp.Compare(b.Throttled+b.Would, a.Throttled+a.Would)
	})
	t.Limits = t.Limits[:min(most, len(t.Limits))]
	return true
}

func addTalkers(list []talker, more []briefTalker, most int) []talker {
	at := map[string]int{}
	for i, t := range list {
		at[t.Name] = i
	}
	for _, m := range more {
		if m.Name == "" || !sane(m.Requests, m.Pulls, m.Pushes, m.BytesIn, m.BytesOut, m.Throttled, m.Would) {
			continue
		}
		i, ok := at[m.Name]
		if !ok {
			at[m.Name] = len(list)
			list = append(list, talker(m))
			continue
		}
		t := &list[i]
		t.Requests = tenths(t.Requests + m.Requests)
		t.Pulls = tenths(t.Pulls + m.Pulls)
		t.Pushes = tenths(t.Pushes + m.Pushes)
		t.BytesIn += m.BytesIn
		t.BytesOut += m.BytesOut
		t.Throttled = tenths(t.Throttled + m.Throttled)
		t.Would = tenths(t.Would + m.Would)
	}
	slices.SortStableFunc(list, func(a, b talker) int { return cmp.Compare(b.weight(), a.weight()) })
	return list[:min(most, len(list))]
}

// weight is by what talkers are put in order, as each instance does it.
func (t *talker) weight() float64 {
	return t.Requests + t.Throttled + t.Would + (t.BytesIn+t.BytesOut)/mebibyte
}

// sane reports whether figures can be some: others wrote them.
func sane(figures ...float64) bool {
	return !slices.ContainsFunc(figures, func(n float64) bool { return !(n >= 0 && n <= mostFigure) })
}

// of says whose figures these are.
func (t *topAnswer) of() string {
	switch {
	case t.Heard > 1 && t.Heard == t.Instances:
		return fmt.Sprintf("of %d instances", t.Heard)
	case t.Heard > 1:
		return fmt.Sprintf("of %d of %d instances: %s", t.Heard, t.Instances, t.Missing)
	case t.Missing != "":
		return "of this instance alone: " + t.Missing
	case t.Instances > 1:
		return fmt.Sprintf("of this instance, one of %d", t.Instances)
	}
	return "of this instance"
}
