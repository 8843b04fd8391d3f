package main

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/regward/regward/configs"
	"github.com/regward/regward/fleet"
	"github.com/regward/regward/proxy"
	"github.com/regward/regward/ratelimit"
)

// How many buckets GET /api/v1/limits tells of.
const (
	usagesShown = 100    // unless asked for more
	mostUsages  = 10_000 // at most
)

// limitsAnswer is the answer of GET /api/v1/limits.
type limitsAnswer struct {
	Config     string         `json:"config"`
	Together   bool           `json:"together"`             // several instances count as one
	Incomplete string         `json:"incomplete,omitempty"` // why what is used is not all that is used
	Limits     []limitStatus  `json:"limits"`               // in the order of the file
	Override   *overrideState `json:"override,omitempty"`   // of all limits
}

// limitStatus is a limit and what is used up of it.
type limitStatus struct {
	Name     string         `json:"name"`
	Count    string         `json:"count"`
	Rate     string         `json:"rate"`            // as configured
	Burst    string         `json:"burst,omitempty"` // as configured, where it is not what the rate says
	Per      string         `json:"per"`
	DryRun   bool           `json:"dry_run,omitempty"`
	Where    string         `json:"where"`
	Override *overrideState `json:"override,omitempty"`
	Used     []usageState   `json:"used"` // the fullest first
}

// usageState is what is used up of one bucket.
type usageState struct {
	Client string    `json:"client"`
	Used   int       `json:"used"` // events, bytes or places
	Size   int       `json:"size"`
	Next   time.Time `json:"next,omitzero"` // when one more passes; zero: now, or nobody knows
	Full   time.Time `json:"full,omitzero"` // when nothing is used any more
}

// overrideState is an override in force.
type overrideState struct {
	Rate   string    `json:"rate,omitempty"`
	DryRun bool      `json:"dry_run,omitempty"`
	Until  time.Time `json:"until"`
	By     string    `json:"by,omitempty"`
}

func newOverrideState(o fleet.Override) *overrideState {
	return &overrideState{o.Rate, o.DryRun, o.Until, o.By}
}

// limits tells what is used up of which limit, by whom, until when.
func (s *server) limits(w http.ResponseWriter, r *http.Request) {
	query, now := r.URL.Query(), s.live.Load()
	most := usagesShown
	if text := query.Get("most"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > mostUsages {
			plain(w, http.StatusBadRequest, "most: a number from 1 to "+strconv.Itoa(mostUsages))
			return
		}
		most = n
	}
	name := query.Get("limit")
	if name != "" && findLimit(now.cfg, name) == nil {
		plain(w, http.StatusNotFound, noSuchLimit(now.cfg, name))
		return
	}
	answer := limitsAnswer{Config: now.cfg.Version, Together: s.shared.client != nil, Limits: []limitStatus{}}
	over := s.overridesNow()
	if o, ok := over[""]; ok {
		answer.Override = newOverrideState(o)
	}
	usages, err := s.used(r, name, query.Get("user"), now.cfg, most)
	if err != nil {
		answer.Incomplete = s.usedWords(err)
	}
	places := placesOf(s.handler.Limits())
	for i := range now.cfg.Limits {
		l := &now.cfg.Limits[i]
		if name != "" && l.Name != name {
			continue
		}
		one := limitStatus{Name: l.Name, Count: string(l.Count), Rate: cmp.Or(string(l.RateText), l.Rate.String()), Burst: string(l.BurstText), Per: string(l.Per),
			DryRun: l.DryRun, Where: l.Where, Used: []usageState{}}
		if o, ok := over[l.Name]; ok {
			one.Override = newOverrideState(o)
		}
		for _, u := range usages {
			if u.Limit == l.Name {
				u.Size = cmp.Or(places[l.Name], u.Size)
				one.Used = append(one.Used, s.usageState(u))
			}
		}
		answer.Limits = append(answer.Limits, one)
	}
	writeJSON(w, http.StatusOK, answer)
}

// placesOf are how many transfers limits let run at once, by name. A place that
// was taken beyond the limit, for an upload that must go on, does not tell.
func placesOf(limits []proxy.Limit) map[string]int {
	places := map[string]int{}
	for _, l := range limits {
		if l.Count == proxy.Transfers {
			places[l.Name] = l.Most
		}
	}
	return places
}

func (s *server) usageState(u ratelimit.Usage) usageState {
	one := usageState{Client: u.Client, Used: u.Used, Size: u.Size}
	if u.RetryAfter > 0 {
		one.Next = s.now().Add(u.RetryAfter).UTC()
	}
	if u.Reset > 0 {
		one.Full = s.now().Add(u.Reset).UTC()
	}
	return one
}

// asNow makes of usages, which are of the rates that were asked with last, what
// the limits of this moment make of them: one that was just overridden, say.
func asNow(usages []ratelimit.Usage, limits []proxy.Limit) {
	rates := map[string]ratelimit.Rate{}
	for i := range limits {
		rates[limits[i].Name] = limits[i].Rate
	}
	for i := range usages {
		usages[i] = usages[i].At(rates[usages[i].Limit])
	}
}

// used lists what is used up, of one limit or of all, and if user is not empty
// only what that user takes from. What is left of limits that a reload took away
// is nobody's concern. An error comes with a part.
func (s *server) used(r *http.Request, limit, user string, cfg *configs.Config, most int) ([]ratelimit.Usage, error) {
	ask := mostUsages // those of limits that are gone may be the fullest
	if user != "" {
		ask = limitKeys // the user's may be the emptiest of all
	}
	usages, err := list(r.Context(), limit, ask, s.shared.limits, s.shared.failures)
	if errors.Is(err, ratelimit.ErrUnavailable) && s.shared.local != nil { // what this instance counts meanwhile
		usages, _ = list(r.Context(), limit, ask, s.shared.local, s.shared.localFailures)
	}
	if user != "" {
		clients := clientsOf(cfg, user)
		usages = slices.DeleteFunc(usages, func(u ratelimit.Usage) bool {
			return !slices.Contains(clients, u.Client) && !strings.HasSuffix(u.Client, " "+clients[0])
		})
	}
	usages = slices.DeleteFunc(usages, func(u ratelimit.Usage) bool { return findLimit(cfg, u.Limit) == nil })
	asNow(usages, s.handler.Limits())
	return usages[:min(len(usages), most)], err
}

// list lists both limiters, which may be one.
func list(ctx context.Context, limit string, most int, limits, failures ratelimit.Limiter) ([]ratelimit.Usage, error) {
	usages, err := limits.List(ctx, limit, most)
	if failures == limits {
		return usages, err
	}
	more, moreErr := failures.List(ctx, limit, most)
	usages = append(usages, more...)
	slices.SortStableFunc(usages, func(a, b ratelimit.Usage) int {
		return cmp.Compare(float64(b.Used)/float64(max(1, b.Size)), float64(a.Used)/float64(max(1, a.Size)))
	})
	return usages, errors.Join(err, moreErr)
}

// clientsOf are the names of the buckets that a user takes from: the user's
// own, the fixed groups', everybody's. Whose address is whose nobody knows.
func clientsOf(cfg *configs.Config, user string) []string {
	user = folded(cfg, user)
	clients := []string{"user:" + user, "all", ratelimit.Shared}
	for _, group := range cfg.UserGroups()[user] {
		clients = append(clients, "group:"+group)
	}
	return clients
}

// folded is a user's name as it is compared.
func folded(cfg *configs.Config, user string) string {
	if cfg.Auth.CaseSensitive {
		return user
	}
	return strings.ToLower(user)
}

// usedWords says why not all that is used is told.
func (s *server) usedWords(err error) string {
	switch {
	case errors.Is(err, ratelimit.ErrUnavailable) && s.shared.local != nil:
		return "Redis cannot be asked what is used up; this is what this instance has counted meanwhile"
	case errors.Is(err, ratelimit.ErrUnavailable):
		return "Redis cannot be asked what is used up"
	case errors.Is(err, ratelimit.ErrIncomplete):
		return "Redis holds more keys than are looked at: there may be more"
	}
	return err.Error()
}

func findLimit(cfg *configs.Config, name string) *configs.Limit {
	for i := range cfg.Limits {
		if cfg.Limits[i].Name == name {
			return &cfg.Limits[i]
		}
	}
	return nil
}

func noSuchLimit(cfg *configs.Config, name string) string {
	var names []string
	for _, l := range cfg.Limits {
		names = append(names, l.Name)
	}
	text := "no limit is called " + strconv.Quote(name) + "; "
	if best := configs.Nearest(name, names); best != "" {
		text += "did you mean " + strconv.Quote(best) + "? "
	}
	return text + "there are: " + strings.Join(names, ", ")
}

// resetAsked is the body of POST /api/v1/limits/reset.
type resetAsked struct {
	Limit  string `json:"limit"`
	Client string `json:"client"` // as GET /api/v1/limits names it: user:ann, ip:192.0.2.7
	By     string `json:"by,omitempty"`
}

// noSuchClient says that a client has used up nothing, or is not called so.
func noSuchClient(limit, client string) string {
	text := "nothing is used up of limit " + strconv.Quote(limit) + " for " + strconv.Quote(client) + "; "
	if kind := "user:"; !strings.ContainsAny(client, " /") && client != ratelimit.Shared && !strings.HasPrefix(client, kind) {
		if _, err := parseNetwork(client); err == nil {
			kind = "ip:"
		}
		if kind == "ip:" || !strings.Contains(client, ":") {
			text += "did you mean " + kind + client + "? "
		}
	}
	return text + "`regward limits show --limit " + limit + "` names those who have"
}

// done is the answer to what was done.
type done struct {
	OK        bool   `json:"ok"`
	NotShared string `json:"not_shared,omitempty"` // it holds here, and why the other instances do not know yet
}

// resetLimit forgives what one client has used up, on all instances.
func (s *server) resetLimit(w http.ResponseWriter, r *http.Request) {
	var q resetAsked
	if !readJSON(w, r, &q) {
		return
	}
	cfg := s.live.Load().cfg
	l := findLimit(cfg, q.Limit)
	switch {
	case l == nil:
		plain(w, http.StatusNotFound, noSuchLimit(cfg, q.Limit))
		return
	case q.Client == "":
		plain(w, http.StatusBadRequest, "client: whose? as limits show names it: user:ann, ip:192.0.2.7")
		return
	}
	from := s.shared.limits
	if l.Count == configs.CountFailedLogins {
		from = s.shared.failures
	}
	client := q.Client
	if kind, name, ok := strings.Cut(client, "user:"); ok {
		client = kind + "user:" + folded(cfg, name)
	}
	err := from.Reset(r.Context(), ratelimit.Key{Limit: q.Limit, Client: client})
	switch {
	case errors.Is(err, ratelimit.ErrNoBucket):
		plain(w, http.StatusNotFound, noSuchClient(q.Limit, q.Client))
	case errors.Is(err, ratelimit.ErrUnavailable):
		plain(w, http.StatusServiceUnavailable, "Redis cannot be asked, so nothing was given back: try again when `regward status` says redis: ok, or ease the limit meanwhile: `regward limits override`")
	case err != nil:
		plain(w, http.StatusInternalServerError, err.Error())
	default:
		s.log.Info("limit reset", zap.String("limit", q.Limit), zap.String("client", q.Client), zap.String("by", q.By))
		s.handler.Audit.Write("reset", zap.String("limit", q.Limit), zap.String("client", q.Client), zap.String("by", q.By))
		writeJSON(w, http.StatusOK, done{OK: true})
	}
}
