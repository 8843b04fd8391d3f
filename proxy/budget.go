package proxy

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Budget is what an upstream said last of the pulls it gives us, in Docker
// Hub's fields (L01).
type Budget struct {
	Limit     int // pulls in Window; 0: not told
	Remaining int
	Window    time.Duration
	Source    string // whom it counts: an account, or the address it sees; "": not told
}

const (
	maxBudget       = 1e9                 // pulls; more is nonsense
	maxBudgetWindow = 31 * 24 * time.Hour // longer is nonsense
	maxBudgetSource = 64                  // bytes
)

// readBudget reads the fields `ratelimit-remaining: 20;w=21600` and the like.
// It is not ok where they are absent (unlimited), or are another registry's
// under the same name: those have no window.
func readBudget(h http.Header) (b Budget, ok bool) {
	remaining, inRemaining, ok := readWindow(h["Ratelimit-Remaining"])
	if !ok {
		return b, false
	}
	limit, inLimit, told := readWindow(h["Ratelimit-Limit"])
	b = Budget{Remaining: remaining, Window: max(inRemaining, inLimit)}
	if told {
		b.Limit = limit
	}
	if source := h["Docker-Ratelimit-Source"]; len(source) == 1 && len(source[0]) <= maxBudgetSource && plain(source[0]) {
		b.Source = source[0]
	}
	return b, b.Window > 0
}

// readWindow reads "100;w=21600"; a window of 0 is none.
func readWindow(lines []string) (n int, window time.Duration, ok bool) {
	if len(lines) != 1 {
		return 0, 0, false
	}
	number, rest, _ := strings.Cut(lines[0], ";")
	n, err := strconv.Atoi(strings.TrimSpace(number))
	if err != nil || n < 0 || n > maxBudget {
		return 0, 0, false
	}
	if w, has := strings.CutPrefix(strings.TrimSpace(rest), "w="); has {
		secs, err := strconv.Atoi(w)
		if err == nil && secs > 0 && secs <= int(maxBudgetWindow/time.Second) {
			window = time.Duration(secs) * time.Second
		}
	}
	return n, window, true
}

// words are the budget in a few: "7 of 200 pulls in 6h left".
func (b *Budget) words() string {
	switch {
	case b.Remaining == 0:
		return b.all() + " are used up"
	case b.Limit == 0:
		return strconv.Itoa(b.Remaining) + " pulls left"
	}
	return strconv.Itoa(b.Remaining) + " of " + b.all() + " left"
}

// all are the pulls of a window: "200 pulls in 6h".
func (b *Budget) all() string {
	var s string
	if b.Limit > 0 {
		s = strconv.Itoa(b.Limit) + " "
	}
	return s + "pulls in " + spell(b.Window)
}

// How much of a budget is gone: less than a fifth left, less than a twentieth.
const (
	plenty = iota
	low
	nearlyGone
)

func (b *Budget) level() int32 {
	switch {
	case b.Remaining == 0, b.Remaining*20 < b.Limit:
		return nearlyGone
	case b.Remaining*5 < b.Limit:
		return low
	}
	return plenty
}

// recovered is well above a fifth: answers come out of order, and a warning
// that comes and goes is none.
func (b *Budget) recovered() bool { return b.level() == plenty && b.Remaining*4 > b.Limit }

// budget keeps the newest Budget of an upstream and warns before it is gone.
// It takes no lock, and no memory where nothing is new.
type budget struct {
	last   atomic.Pointer[said]
	at     atomic.Int64 // when it was said, in seconds since 1970
	warned atomic.Int32 // the level that the log was told
	warns  [nearlyGone + 1]sometimes
}

// said is a Budget and the fields it was read from.
type said struct {
	Budget
	limit, remaining, source string
}

// note reads an answer to a request of our own account's, or of our address'.
func (b *budget) note(u *Upstream, out *outgoing, h http.Header) {
	remaining := first(h, "Ratelimit-Remaining")
	if remaining == "" || !strings.Contains(out.Path, "/manifests/") || out.Method != http.MethodGet && out.Method != http.MethodHead {
		return
	}
	now := u.Now()
	if at := now.Unix(); b.at.Load() != at {
		b.at.Store(at)
	}
	limit, source := first(h, "Ratelimit-Limit"), first(h, "Docker-Ratelimit-Source")
	if old := b.last.Load(); old != nil && old.remaining == remaining && old.limit == limit && old.source == source {
		return
	}
	read, ok := readBudget(h)
	if !ok {
		return
	}
	b.last.Store(&said{read, strings.Clone(limit), strings.Clone(remaining), strings.Clone(source)})
	b.warn(u, &read, now)
}

// warn tells the log of each step down once, and again only after the budget
// has recovered.
func (b *budget) warn(u *Upstream, now *Budget, at time.Time) {
	level, warned := now.level(), b.warned.Load()
	switch {
	case now.recovered() && warned != plenty:
		b.warned.CompareAndSwap(warned, plenty)
	case level > warned && b.warned.CompareAndSwap(warned, level):
		b.warns[level].do(at, func() { // of several sources one may be full and one empty
			u.Log.Warn("upstream gives few pulls more: "+now.words(), zap.String("upstream", u.settings.Name),
				zap.Int("remaining", now.Remaining), zap.Int("limit", now.Limit), zap.String("source", now.Source))
		})
	}
}

// current is the newest, nil if none was ever told or its window is over.
func (b *budget) current(now time.Time) *Budget {
	s := b.last.Load()
	if s == nil || now.Sub(time.Unix(b.at.Load(), 0)) > s.Window {
		return nil
	}
	return &s.Budget
}

// limited is a 429 of the upstream's as clients see it: it says whose limit
// that is, so that nobody looks for it here (M13). Retry-After is whole seconds,
// 60 at most (S07). theirs is a request with the client's own login there,
// which the upstream's own fields are for (L03).
func (u *Upstream) limited(h http.Header, theirs bool) *httpError {
	now := u.Now()
	wait, told := readRetryAfter(h, now)
	used, counts := readBudget(h)
	msg := u.spoken() + ", not this registry, refuses"
	if counts && used.Remaining == 0 {
		msg += ": " + u.payer(theirs) + " has used its " + used.all()
		if used.Source != "" && !isAddress(used.Source) {
			msg += " (source: " + used.Source + ")"
		}
		if !told {
			msg += "; free again within " + spell(used.Window)
			wait = used.Window
		}
	} else {
		msg += " for now: too many requests there"
		if !told {
			wait = untoldWait
		}
	}
	if told {
		msg += "; free again about " + clockTime(now.Add(wait), now)
	}
	e := refuse(http.StatusTooManyRequests, "TOOMANYREQUESTS", msg).because(reasonUpstream).with("Retry-After", retryAfter(wait))
	if theirs {
		copyBudget(e.header, h)
	}
	return e
}

const (
	untoldWait  = 10 * time.Second // a 429 that does not say for how long
	longestTold = 7 * 24 * time.Hour
)

// readRetryAfter reads seconds or a date. It is not told where it makes no
// sense.
func readRetryAfter(h http.Header, now time.Time) (wait time.Duration, told bool) {
	value := first(h, "Retry-After")
	if secs, err := strconv.Atoi(value); err == nil {
		wait = time.Duration(min(max(secs, 0), int(longestTold/time.Second)+1)) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	}
	return wait, wait > 0 && wait <= longestTold
}

// spoken is what people call the upstream. A name that is its address is for
// operators only.
func (u *Upstream) spoken() string {
	for _, domain := range []string{"docker.io", "docker.com"} {
		if u.hostname == domain || strings.HasSuffix(u.hostname, "."+domain) {
			return "Docker Hub"
		}
	}
	if u.settings.Name == "" || strings.EqualFold(u.settings.Name, u.host) {
		return "the registry behind this one"
	}
	return "upstream " + u.settings.Name
}

// payer is whose pulls they are.
func (u *Upstream) payer(theirs bool) string {
	switch {
	case theirs:
		return "your account there"
	case u.settings.Username != "":
		return "account " + u.settings.Username
	}
	return "the address of this registry"
}

// clockTime is a time of today, or with its date.
func clockTime(t, now time.Time) string {
	if t.Sub(now) >= 20*time.Hour {
		return t.UTC().Format("2006-01-02 15:04 MST")
	}
	return t.UTC().Format("15:04 MST")
}

// showTheirs lets the upstream's own fields through to those who came with a
// login of their own there (L03). Where a limit of ours has no more left, that
// one is told (L01).
func (x *exchange) showTheirs(h http.Header) {
	theirs, _, told := readWindow(h["Ratelimit-Remaining"])
	if !told || !x.ownLogin() {
		return
	}
	dst := x.w.Header()
	if ours, _, has := readWindow(dst["Ratelimit-Remaining"]); has && ours <= theirs {
		return
	}
	delete(dst, "Ratelimit-Reset")
	delete(dst, "Docker-Ratelimit-Source")
	copyBudget(dst, h)
}

// copyBudget copies them as they are.
func copyBudget(dst, src http.Header) {
	for _, name := range []string{"Ratelimit-Limit", "Ratelimit-Remaining", "Ratelimit-Reset", "Docker-Ratelimit-Source"} {
		if values, has := src[name]; has {
			dst[name] = values
		}
	}
}

// first is the first line of a header field, by its canonical name.
func first(h http.Header, name string) string {
	if lines := h[name]; len(lines) > 0 {
		return lines[0]
	}
	return ""
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}
