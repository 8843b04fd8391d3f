package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/regward/regward/fleet"
	"github.com/regward/regward/internal/redistest"
)

// patient is what a test waits for a call that it expects to succeed, or to be
// refused at once: the machine may be busy with other tests.
const patient = 10 * time.Second

// member is an instance and what it was told.
type member struct {
	*fleet.Fleet
	clock *clock
	logs  *observer.ObservedLogs

	mu        sync.Mutex
	revoked   map[string]time.Time
	told      int // revocations, repeated ones too
	overrides []fleet.Override
	reloads   []fleet.Reload
}

// join makes one. Nothing is looked at but what messages tell of, unless the
// test says Every.
func join(t testing.TB, c redis.UniversalClient, change ...func(*fleet.Options)) *member {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	m := &member{clock: &clock{}, logs: logs, revoked: map[string]time.Time{}}
	o := fleet.Options{
		Client: c, Prefix: "regward", Every: time.Hour, Timeout: patient, Now: m.clock.Now, Log: zap.New(core),
		OnRevoked: func(list []fleet.Revocation) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, r := range list {
				m.told++
				if r.At.After(m.revoked[r.User]) {
					m.revoked[r.User] = r.At
				}
			}
		},
		OnOverrides: func(list []fleet.Override) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.overrides = list
		},
		OnReload: func(r fleet.Reload) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.reloads = append(m.reloads, r)
		},
	}
	for _, one := range change {
		one(&o)
	}
	m.Fleet = fleet.New(o)
	t.Cleanup(m.Close)
	if c != nil && m.State().Sharing() {
		eventually(t, "it is subscribed", func() bool { return m.State().Subscribed })
	}
	return m
}

// impatient looks soon, and waits no longer than it must for what others have to
// tell after a cut.
func impatient(o *fleet.Options) { o.Every, o.Timeout = 20*time.Millisecond, 2*time.Second }

func (m *member) out(user string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.revoked[user].IsZero()
}

func (m *member) at(user string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.revoked[user]
}

// limits are the overridden ones, as it was told.
func (m *member) limits() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []string
	for _, o := range m.overrides {
		list = append(list, fmt.Sprintf("%s=%s/%v", o.Limit, o.Rate, o.DryRun))
	}
	return strings.Join(list, " ")
}

func (m *member) asked() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.reloads)
}

func ctx(t testing.TB) context.Context { return t.Context() }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (m *member) rate(limit, rate string, d time.Duration) fleet.Override {
	return fleet.Override{Limit: limit, Rate: rate, Until: m.clock.Now().Add(d), By: "eve"}
}

func TestWhatOneDoesAllHave(t *testing.T) {
	for kind, start := range kinds() {
		t.Run(kind, func(t *testing.T) {
			dial := start(t)
			a, b := join(t, dial()), join(t, dial())
			must(t, a.Revoke(ctx(t), "ann", time.Time{}))
			if !a.out("ann") {
				t.Error("not out where it was asked for")
			}
			eventually(t, "ann is out elsewhere", func() bool { return b.out("ann") })
			must(t, b.Override(ctx(t), b.rate("ci", "200/s", time.Hour)))
			eventually(t, "the override is elsewhere", func() bool { return a.limits() == "ci=200/s/false" })
			must(t, a.ClearOverride(ctx(t), "ci"))
			eventually(t, "it is cleared elsewhere", func() bool { return b.limits() == "" })
			must(t, a.Reload(ctx(t), "eve"))
			eventually(t, "the other one loads", func() bool { return b.asked() == 1 })
			must(t, b.Override(ctx(t), fleet.Override{DryRun: true, Until: time.Now().Add(time.Hour)}))

			late := join(t, dial())
			if !late.at("ann").Equal(a.at("ann")) || !b.at("ann").Equal(a.at("ann")) || late.limits() != "=/true" {
				t.Errorf("who comes later knows %v, %q", late.revoked, late.limits())
			}
			must(t, late.Beat(ctx(t)))
			if a.asked() != 0 || late.asked() != 0 || b.asked() != 1 {
				t.Errorf("asked to load: %d %d %d times", a.asked(), b.asked(), late.asked())
			}
			list, err := a.Instances(ctx(t))
			if err != nil || len(list) != 3 {
				t.Errorf("%d instances, %v", len(list), err)
			}
			for _, m := range []*member{a, b, late} {
				if s := m.State(); !s.Sharing() || s.Unsent != 0 || s.Nonsense != 0 || s.Cut != nil || s.Alone {
					t.Errorf("state %+v", s)
				}
			}
		})
	}
}

func TestAFleetOfOne(t *testing.T) {
	m := join(t, nil)
	must(t, m.Revoke(ctx(t), "ann", m.clock.Now()))
	must(t, m.Override(ctx(t), m.rate("ci", "1/s", time.Hour)))
	must(t, m.Override(ctx(t), m.rate("people", "2/s", 2*time.Hour)))
	must(t, m.Reload(ctx(t), "eve"))
	must(t, m.ClearOverride(ctx(t), "no such"))
	if !m.out("ann") || m.limits() != "ci=1/s/false people=2/s/false" || m.asked() != 0 {
		t.Errorf("%v, %q, %d", m.revoked, m.limits(), m.asked())
	}
	m.clock.Advance(time.Hour)
	if list := m.Overrides(); len(list) != 1 || list[0].Limit != "people" {
		t.Errorf("one is over and still there: %v", list)
	}
	must(t, m.Beat(ctx(t)))
	if m.limits() != "people=2/s/false" {
		t.Errorf("nobody was told that it is over: %q", m.limits())
	}
	must(t, m.ClearOverride(ctx(t), "people"))
	m.clock.Advance(fleet.DefaultKeep)
	must(t, m.Beat(ctx(t)))
	if m.limits() != "" || len(m.Revocations()) != 0 {
		t.Errorf("%q, %v", m.limits(), m.Revocations())
	}
	list, err := m.Instances(ctx(t))
	if err != nil || len(list) != 1 || !list[0].Self || !m.State().Alone || !m.State().Sharing() {
		t.Errorf("%v, %v, %+v", list, err, m.State())
	}
}

// Walkthrough, day 3, 14:10.
func TestRedisDiesAndComesBackEmpty(t *testing.T) {
	s := newServer(t)
	a, b := join(t, s.client(t), impatient), join(t, s.client(t), impatient)
	must(t, a.Revoke(ctx(t), "before", time.Time{}))
	must(t, a.Override(ctx(t), a.rate("ci", "1/s", time.Hour)))
	must(t, a.Override(ctx(t), a.rate("people", "1/s", time.Hour)))
	eventually(t, "b has it", func() bool { return b.out("before") && b.limits() == a.limits() })

	s.Kill()
	for _, user := range []string{"ann", "zoe"} {
		if err := a.Revoke(ctx(t), user, time.Time{}); !errors.Is(err, fleet.ErrNotShared) {
			t.Errorf("revoking %s: %v", user, err)
		}
		if !a.out(user) || b.out(user) {
			t.Error("a cut-off revocation does not hold where it was asked for, or holds elsewhere")
		}
	}
	if err := a.Override(ctx(t), a.rate("ci", "9/s", time.Hour)); !errors.Is(err, fleet.ErrNotShared) || a.limits() != "ci=9/s/false people=1/s/false" {
		t.Errorf("%v, %q", err, a.limits())
	}
	if err := a.ClearOverride(ctx(t), "people"); !errors.Is(err, fleet.ErrNotShared) || a.limits() != "ci=9/s/false" {
		t.Errorf("%v, %q", err, a.limits())
	}
	if err := a.Reload(ctx(t), "eve"); !errors.Is(err, fleet.ErrNotShared) {
		t.Error(err)
	}
	eventually(t, "both know that nothing is shared", func() bool { return !a.State().Sharing() && !b.State().Sharing() })
	if s := a.State(); s.Unsent != 5 || s.Since.IsZero() || s.Error == "" || s.Subscribed {
		t.Errorf("%+v", s)
	}
	if list, err := a.Instances(ctx(t)); err == nil || len(list) != 1 || list[0].NotShared.IsZero() {
		t.Errorf("%v, %v", list, err)
	}

	s.Start()
	eventually(t, "b has heard of all", func() bool {
		return b.out("ann") && b.out("zoe") && b.asked() == 1 && b.State().Sharing() && a.State().Sharing()
	})
	eventually(t, "the overrides are the same", func() bool { return a.limits() == b.limits() && b.limits() == "ci=9/s/false" })
	eventually(t, "a has nothing more to tell", func() bool { return a.State().Unsent == 0 })
	late := join(t, s.client(t))
	if !late.out("before") || !late.out("ann") || late.limits() != "ci=9/s/false" {
		t.Errorf("lost with the data: %v, %q", late.revoked, late.limits())
	}
	if n := a.logs.FilterLevelExact(zap.ErrorLevel).Len(); n != 1 {
		t.Errorf("%d errors logged for one cut", n)
	}
	if a.asked() != 0 {
		t.Error("a was asked to do what it had asked for")
	}
}

func TestWhatWasMissedIsTold(t *testing.T) {
	s := newServer(t)
	a, b := join(t, s.client(t)), join(t, s.client(t), func(o *fleet.Options) { o.Timeout = 200 * time.Millisecond })
	s.Pause()
	if b.Beat(ctx(t)) == nil {
		t.Fatal("nobody answers, and that is no error")
	}
	since := b.State().Since
	s.Resume()
	eventually(t, "a is there", func() bool { return a.Beat(ctx(t)) == nil })
	for _, user := range []string{"ann", "zoe"} {
		must(t, a.Revoke(ctx(t), user, time.Time{}))
	}
	eventually(t, "b is back", func() bool { _ = b.Beat(ctx(t)); return b.State().Sharing() })
	cut := b.State().Cut
	if cut == nil || !cut.From.Equal(since) || b.State().Error != "" || !b.out("ann") || !b.out("zoe") {
		t.Fatalf("%+v", b.State())
	}
	list, err := a.Instances(ctx(t))
	must(t, err)
	if !slices.ContainsFunc(list, func(i fleet.Instance) bool { return strings.Contains(i.Missed, "came while Redis was away") }) {
		must(t, b.Beat(ctx(t)))
	}
	for _, tt := range []struct {
		cut  fleet.Cut
		want string
	}{
		{fleet.Cut{}, "nothing came while Redis was away (14:10 to 14:31 UTC)"},
		{fleet.Cut{Revocations: 2}, "2 revocations came while Redis was away (14:10 to 14:31 UTC)"},
		{fleet.Cut{Revocations: 1, Reloads: 1}, "1 revocation and 1 reload came while Redis was away (14:10 to 14:31 UTC)"},
		{fleet.Cut{Revocations: 1, Overrides: 3, Reloads: 1}, "1 revocation, 3 changes of overrides and 1 reload came while Redis was away (14:10 to 14:31 UTC)"},
	} {
		tt.cut.From = time.Date(2026, 11, 22, 14, 10, 0, 0, time.UTC)
		tt.cut.To = tt.cut.From.Add(21 * time.Minute)
		if got := tt.cut.String(); got != tt.want || tt.cut.Missed() == strings.HasPrefix(got, "nothing") {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// A cut between one instance and Redis, while the others go on.
func TestOneIsCutOff(t *testing.T) {
	s := newServer(t)
	line := newLine(t, s.Addr)
	a, b := join(t, s.client(t)), join(t, line.client(t), impatient)
	line.cut()
	eventually(t, "b has noticed", func() bool { return !b.State().Sharing() })
	must(t, a.Revoke(ctx(t), "ann", time.Time{}))
	must(t, a.Revoke(ctx(t), "zoe", time.Time{}))
	must(t, a.Override(ctx(t), a.rate("ci", "1/s", time.Hour)))
	must(t, a.Reload(ctx(t), "eve"))
	must(t, a.Reload(ctx(t), "eve again"))
	line.mend()
	eventually(t, "b is back", func() bool { return b.State().Sharing() && b.State().Subscribed })
	want := fleet.Cut{Revocations: 2, Overrides: 1, Reloads: 1}
	got := *b.State().Cut
	got.From, got.To, got.Pending = time.Time{}, time.Time{}, false
	if got != want {
		t.Errorf("missed %+v, want %+v", got, want)
	}
	eventually(t, "b was asked to load", func() bool { return b.asked() > 0 })
	b.mu.Lock()
	if r := b.reloads; len(r) != 1 || r[0].By != "eve again" || r[0].Epoch != 2 || r[0].From == "" {
		t.Errorf("reloads %+v", r)
	}
	b.mu.Unlock()
	if b.limits() != "ci=1/s/false" {
		t.Errorf("overrides %q", b.limits())
	}
	must(t, a.Revoke(ctx(t), "bob", time.Time{}))
	eventually(t, "b hears at once again", func() bool { return b.out("bob") })
	told := func() int { return b.logs.FilterMessageSnippet("came while Redis was away").Len() }
	eventually(t, "it is told what was missed", func() bool { return !b.State().Cut.Pending && told() > 0 })
	if line := b.logs.FilterMessageSnippet("1 change of overrides and 1 reload came while Redis was away"); told() != 1 || line.Len() != 1 {
		t.Errorf("logged: %v", b.logs.All())
	}
}

// Who is back first does not say that nothing came: the others could not tell yet.
func TestWhatOthersCouldNotTellIsWaitedFor(t *testing.T) {
	s := newServer(t)
	first, second := newLine(t, s.Addr), newLine(t, s.Addr)
	a, b := join(t, first.client(t)), join(t, second.client(t))
	first.cut()
	second.cut()
	if a.Beat(ctx(t)) == nil || b.Beat(ctx(t)) == nil {
		t.Fatal("nobody answers, and that is no error")
	}
	if err := a.Revoke(ctx(t), "ann", time.Time{}); !errors.Is(err, fleet.ErrNotShared) {
		t.Fatal(err)
	}
	if err := a.Override(ctx(t), a.rate("ci", "1/s", time.Hour)); !errors.Is(err, fleet.ErrNotShared) {
		t.Fatal(err)
	}
	second.mend()
	eventually(t, "b is back", func() bool { return b.Beat(ctx(t)) == nil })
	if again, told := b.logs.FilterMessageSnippet("shared with other instances again").Len(), b.logs.FilterMessageSnippet("came while").Len(); again != 1 || told != 0 {
		t.Errorf("said: %v", b.logs.All())
	}
	if cut := b.State().Cut; cut == nil || !cut.Pending || !strings.HasSuffix(cut.String(), ", so far") {
		t.Errorf("status says %v", cut)
	}
	first.mend()
	eventually(t, "a is back", func() bool { return a.Beat(ctx(t)) == nil })
	must(t, b.Beat(ctx(t)))
	if !b.out("ann") || b.limits() != "ci=1/s/false" {
		t.Errorf("%v, %q", b.revoked, b.limits())
	}
	b.clock.Advance(2 * time.Hour) // more than the time to wait
	for range 2 {
		must(t, b.Beat(ctx(t)))
	}
	if all := b.logs.FilterMessageSnippet("came while"); all.Len() != 1 || !strings.Contains(all.All()[0].Message, ": 1 revocation and 1 change of overrides came while Redis was away") {
		t.Errorf("said: %v", b.logs.All())
	}
	if cut := b.State().Cut; cut.Pending || cut.Revocations != 1 || cut.Overrides != 1 {
		t.Errorf("status says %v", cut)
	}
	// One that ends in the next cut is told, too.
	second.cut()
	_ = b.Beat(ctx(t))
	second.mend()
	eventually(t, "b is back again", func() bool { return b.Beat(ctx(t)) == nil })
	second.cut()
	_ = b.Beat(ctx(t))
	if n := b.logs.FilterMessageSnippet("came while").Len(); n != 2 {
		t.Errorf("%d lines for two cuts that are over: %v", n, b.logs.All())
	}
}

func TestAPausedRedisHoldsNobodyUp(t *testing.T) {
	s := newServer(t)
	m := join(t, s.client(t), func(o *fleet.Options) { o.Timeout = 100 * time.Millisecond })
	s.Pause()
	defer s.Resume()
	start := time.Now()
	if err := m.Revoke(ctx(t), "ann", time.Time{}); !errors.Is(err, fleet.ErrNotShared) || !strings.Contains(err.Error(), "does not answer in time") {
		t.Error(err)
	}
	if !m.out("ann") {
		t.Error("ann is in")
	}
	_, _ = m.Instances(ctx(t))
	m.Close()
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestDataIsLostWhileTheyRun(t *testing.T) {
	s := newServer(t)
	c := s.client(t)
	a, b := join(t, s.client(t)), join(t, s.client(t))
	must(t, a.Revoke(ctx(t), "ann", time.Time{}))
	must(t, a.Override(ctx(t), a.rate("ci", "1/s", time.Hour)))
	eventually(t, "b has it", func() bool { return b.out("ann") && b.limits() == a.limits() })
	must(t, c.FlushAll(ctx(t)).Err())
	must(t, c.ScriptFlush(ctx(t)).Err())
	// Others are faster, and more happens than did before.
	for range 5 {
		must(t, b.Revoke(ctx(t), "zoe", time.Time{}))
	}
	eventually(t, "a has it", func() bool { return a.at("zoe").Equal(b.at("zoe")) })
	late := join(t, s.client(t))
	if !late.out("ann") || !late.out("zoe") || late.limits() != "ci=1/s/false" || a.limits() != late.limits() {
		t.Errorf("%v, %q", late.revoked, late.limits())
	}
	// A part is lost, as a failover loses it, and nothing says so.
	_, _, _, revoked, _, _, _ := a.Keys()
	must(t, c.Del(ctx(t), revoked).Err())
	for range 12 {
		must(t, a.Beat(ctx(t)))
	}
	if late := join(t, s.client(t)); !late.out("ann") || !late.out("zoe") {
		t.Errorf("%v", late.revoked)
	}
}

// An override that was ended stays so, whoever still knows it and whatever Redis
// has lost; one that is made later holds.
func TestAnEndIsRemembered(t *testing.T) {
	for _, how := range []string{"killed", "cut off", "failed over", "restarted"} {
		t.Run(how, func(t *testing.T) {
			s := newServer(t)
			line := newLine(t, s.Addr)
			file := filepath.Join(t.TempDir(), "fleet.json")
			a, b := join(t, s.client(t), impatient, func(o *fleet.Options) { o.File = file }), join(t, line.client(t), impatient)
			must(t, a.Override(ctx(t), a.rate("ci", "1/s", 2*time.Hour)))
			must(t, a.Override(ctx(t), a.rate("ci", "2/s", time.Hour)))
			must(t, a.Override(ctx(t), a.rate("people", "1/s", time.Hour)))
			eventually(t, "b has them", func() bool { return b.limits() == "ci=2/s/false people=1/s/false" })
			line.cut() // b hears of no end
			eventually(t, "b has noticed", func() bool { return !b.State().Sharing() })
			must(t, a.ClearOverride(ctx(t), "ci"))
			switch head, _, _, _, _, overrides, _ := a.Keys(); how {
			case "killed":
				s.Kill()
				s.Start()
			case "failed over": // to a replica that has not heard of the end
				_, err := s.client(t).TxPipelined(ctx(t), func(p redis.Pipeliner) error {
					p.Del(ctx(t), overrides)
					p.HSet(ctx(t), head, "seq", 1)
					return nil
				})
				must(t, err)
			case "restarted": // a too, and b is the first there
				a.Abandon()
				must(t, s.client(t).FlushAll(ctx(t)).Err())
			}
			line.mend()
			eventually(t, "b is back", func() bool { return b.State().Sharing() })
			if how == "restarted" {
				if b.limits() != "ci=2/s/false people=1/s/false" {
					t.Fatalf("b puts back %q", b.limits())
				}
				a = join(t, s.client(t), impatient, func(o *fleet.Options) { o.File = file })
			}
			eventually(t, "it is over for both", func() bool { return a.limits() == "people=1/s/false" && b.limits() == a.limits() })
			for range 3 {
				must(t, b.Beat(ctx(t)))
				must(t, a.Beat(ctx(t)))
			}
			if late := join(t, s.client(t)); late.limits() != "people=1/s/false" || a.limits() != late.limits() || b.limits() != late.limits() {
				t.Errorf("it came back: %q, %q, %q", a.limits(), b.limits(), late.limits())
			}
			// Not before it would have been over by itself is the end forgotten, but a new
			// one holds, by whatever clock it is made.
			b.clock.Advance(-time.Minute)
			must(t, b.Override(ctx(t), b.rate("ci", "3/s", time.Hour)))
			eventually(t, "the new one holds", func() bool { return a.limits() == "ci=3/s/false people=1/s/false" })
			must(t, s.client(t).FlushAll(ctx(t)).Err())
			must(t, a.Beat(ctx(t)))
			must(t, b.Beat(ctx(t)))
			if late := join(t, s.client(t)); late.limits() != "ci=3/s/false people=1/s/false" {
				t.Errorf("the new one is lost: %q", late.limits())
			}
		})
	}
}

// A short override in place of a long one does not give way to the long one.
func TestAShortOverrideInPlaceOfALongOne(t *testing.T) {
	s := newServer(t)
	line := newLine(t, s.Addr)
	a, b := join(t, s.client(t), impatient), join(t, line.client(t), impatient)
	must(t, a.Override(ctx(t), a.rate("ci", "1/s", time.Hour)))
	eventually(t, "b has it", func() bool { return b.limits() == "ci=1/s/false" })
	line.cut()
	must(t, a.Override(ctx(t), a.rate("ci", "2/s", 300*time.Millisecond)))
	eventually(t, "it is over", func() bool { return a.limits() == "" })
	must(t, s.client(t).FlushAll(ctx(t)).Err())
	line.mend()
	eventually(t, "b knows as well", func() bool { return b.limits() == "" })
	if late := join(t, s.client(t)); late.limits() != "" || a.limits() != "" {
		t.Errorf("%q is back", late.limits())
	}
}

// Ends are bounded: the one that would be over first is forgotten, here and in Redis.
func TestEndsAreBounded(t *testing.T) {
	s := newServer(t)
	a, b := join(t, s.client(t)), join(t, s.client(t))
	_, _, _, _, _, overrides, _ := a.Keys()
	for i := range 3 * fleet.MaxOverrides {
		must(t, a.Override(ctx(t), a.rate(fmt.Sprint(i), "1/s", time.Hour)))
		must(t, a.ClearOverride(ctx(t), fmt.Sprint(i)))
		must(t, a.ClearOverride(ctx(t), fmt.Sprint("never", i)))
	}
	for i := range fleet.MaxOverrides {
		must(t, a.Override(ctx(t), a.rate(fmt.Sprint("in force ", i), "1/s", time.Hour)))
	}
	if n := s.client(t).HLen(ctx(t), overrides).Val(); n != 2*fleet.MaxOverrides {
		t.Errorf("%d are kept", n)
	}
	if n := a.Known(); n != 2*fleet.MaxOverrides {
		t.Errorf("%d are known", n)
	}
	eventually(t, "b has those in force", func() bool { return len(b.Overrides()) == fleet.MaxOverrides && b.State().Sharing() })
	a.clock.Advance(2 * time.Hour)
	must(t, a.Beat(ctx(t)))
	cut := join(t, deadClient(t), func(o *fleet.Options) { o.Timeout = 50 * time.Millisecond })
	for i := range 2 * fleet.MaxOverrides {
		err := cut.ClearOverride(ctx(t), fmt.Sprint(i))
		if i < fleet.MaxOverrides && !errors.Is(err, fleet.ErrNotShared) || i >= fleet.MaxOverrides && !errors.Is(err, fleet.ErrTooMany) {
			t.Fatalf("end %d: %v", i, err)
		}
	}
}

func TestClocksAreAMinuteApart(t *testing.T) {
	s := newServer(t)
	at := func(d time.Duration) func(*fleet.Options) {
		return func(o *fleet.Options) {
			c := &clock{}
			c.Advance(d)
			o.Now = c.Now
		}
	}
	fast, slow := join(t, s.client(t), at(time.Minute)), join(t, s.client(t), at(-time.Minute))
	must(t, fast.Revoke(ctx(t), "ann", time.Time{}))
	eventually(t, "slow has it", func() bool { return slow.out("ann") })
	first := slow.at("ann")
	// Whoever logged in at fast meanwhile is to be out as well.
	must(t, slow.Revoke(ctx(t), "ann", time.Time{}))
	if !slow.at("ann").After(first) {
		t.Errorf("the second revocation is not the later one: %v, %v", first, slow.at("ann"))
	}
	eventually(t, "fast has it", func() bool { return fast.at("ann").Equal(slow.at("ann")) })

	must(t, fast.Override(ctx(t), fleet.Override{Limit: "ci", Rate: "1/s", Until: time.Now().Add(2 * time.Minute)})) // one, by its clock
	eventually(t, "slow has the override", func() bool { return len(slow.Overrides()) == 1 })
	if left := slow.Overrides()[0].Until.Sub(time.Now().Add(-time.Minute)); left < 50*time.Second || left > 70*time.Second {
		t.Errorf("%v are left, not a minute", left)
	}
	must(t, slow.ClearOverride(ctx(t), "ci")) // made earlier than it was set, by the clocks
	eventually(t, "it is cleared", func() bool { return len(fast.Overrides()) == 0 })
	must(t, fast.Beat(ctx(t)))
	must(t, slow.Beat(ctx(t)))
	list, err := fast.Instances(ctx(t))
	must(t, err)
	if apart := (list[0].Clock - list[1].Clock).Abs(); len(list) != 2 || apart < 119*time.Second || apart > 121*time.Second {
		t.Errorf("clocks %v and %v", list[0].Clock, list[1].Clock)
	}
}

// A revocation that could not be told ends, once it is told, what the others have
// proven since one of their own, by whatever clock.
func TestRevocationsOfOneUserInACut(t *testing.T) {
	s := newServer(t)
	line := newLine(t, s.Addr)
	a, b := join(t, s.client(t)), join(t, line.client(t), impatient)
	a.clock.Advance(time.Minute)
	line.cut()
	if err := b.Revoke(ctx(t), "ann", time.Time{}); !errors.Is(err, fleet.ErrNotShared) {
		t.Fatal(err)
	}
	must(t, a.Revoke(ctx(t), "ann", time.Time{}))
	first := a.at("ann")
	if !first.After(b.at("ann")) {
		t.Fatal("the clocks are not apart")
	}
	line.mend()
	eventually(t, "ann is out once more, everywhere", func() bool { return a.at("ann").After(first) && b.at("ann").Equal(a.at("ann")) })
}

// So does one that a restart came in between.
func TestARevocationToldAfterARestart(t *testing.T) {
	s := newServer(t)
	file := filepath.Join(t.TempDir(), "fleet.json")
	keep := func(o *fleet.Options) { o.File = file }
	cut := join(t, deadClient(t), keep)
	if err := cut.Revoke(ctx(t), "ann", time.Time{}); !errors.Is(err, fleet.ErrNotShared) {
		t.Fatal(err)
	}
	cut.Abandon()
	a := join(t, s.client(t))
	join(t, s.client(t), keep)
	eventually(t, "ann is out elsewhere", func() bool { return a.out("ann") })
}

func TestNonsenseIsIgnored(t *testing.T) {
	s := newServer(t)
	c := s.client(t)
	m := join(t, s.client(t), impatient)
	head, alive, texts, revoked, revokedAt, overrides, channel := m.Keys()
	far := float64(time.Now().Add(time.Hour).UnixMilli())
	end := fmt.Sprintf("%.0f 1 %.0f ", far, far)
	for _, message := range []string{"", "x", "1 2 3", "{}", "gen -5", "gen 99999999999999999999", strings.Repeat("x", 1<<20), " 7", "\x00\xff"} {
		must(t, c.Publish(ctx(t), channel, message).Err())
	}
	for id, value := range map[string]string{"a": "", "b": "{", "c": `{"id":"other"}`, "d": `[]`, strings.Repeat("e", 300): `{}`, "f": strings.Repeat("x", fleet.MaxValue+1)} {
		must(t, c.HSet(ctx(t), texts, id, value).Err())
		must(t, c.ZAdd(ctx(t), alive, redis.Z{Score: far, Member: id}).Err())
	}
	for user, at := range map[string]string{"a": "", "b": "x", "c": "-1", "d": "1e300", "e": "99999999999999999999", "f\n": "5", strings.Repeat("u", 300): "5", "g": strings.Repeat("1", 1000)} {
		must(t, c.HSet(ctx(t), revokedAt, user, at).Err())
		must(t, c.ZAdd(ctx(t), revoked, redis.Z{Score: far, Member: user}).Err())
	}
	must(t, c.ZAdd(ctx(t), revoked, redis.Z{Score: 1e300, Member: "ever"}, redis.Z{Score: far, Member: "timeless"}).Err())
	must(t, c.HSet(ctx(t), revokedAt, "ever", "5").Err())
	for limit, value := range map[string]string{
		"a": "", "b": "{}", "c": end, "d": end + "{", "e": end + `{"limit":"other","rate":"1/s","at":"2026-11-22T00:00:00Z"}`,
		"f":                      end + `{"limit":"f","newer":"a field that changes everything","at":"2026-11-22T00:00:00Z"}`,
		"g":                      end + `{"limit":"g","rate":"` + strings.Repeat("1", 300) + `","at":"2026-11-22T00:00:00Z"}`,
		"h":                      end + `{"limit":"h","rate":5,"at":"2026-11-22T00:00:00Z"}`,
		"i":                      "99999999999999999 1 99999999999999999 " + `{"limit":"i","rate":"1/s","at":"2026-11-22T00:00:00Z"}`,
		"j":                      end + strings.Repeat(" ", fleet.MaxValue) + `{"limit":"j","rate":"1/s","at":"2026-11-22T00:00:00Z"}`,
		strings.Repeat("k", 300): end + `{}`,
	} {
		must(t, c.HSet(ctx(t), overrides, limit, value).Err())
	}
	must(t, c.HSet(ctx(t), head, "seq", "1000").Err())
	eventually(t, "it was read", func() bool { return m.State().Nonsense >= 20 })
	if list, err := m.Instances(ctx(t)); err != nil || len(list) != 1 {
		t.Errorf("instances %+v, %v", list, err)
	}
	if m.told != 0 || m.limits() != "" || !m.State().Sharing() {
		t.Errorf("%v, %q, %+v", m.revoked, m.limits(), m.State())
	}
	if n := m.logs.FilterMessageSnippet("ignored in redis").Len(); n != 1 {
		t.Errorf("%d lines about nonsense in a minute", n)
	}
	// What makes sense goes on.
	other := join(t, s.client(t))
	for _, user := range []string{"ann", "d", "g"} { // and takes the place of nonsense
		must(t, other.Revoke(ctx(t), user, time.Time{}))
		eventually(t, user+" is out", func() bool { return m.out(user) })
	}
	must(t, other.Override(ctx(t), other.rate("d", "1/s", time.Hour)))
	eventually(t, "the override", func() bool { return m.limits() == "d=1/s/false" })
}

func TestKeysOfAnotherKind(t *testing.T) {
	s := newServer(t)
	c := s.client(t)
	m := join(t, s.client(t))
	must(t, m.Revoke(ctx(t), "ann", time.Time{}))
	head, alive, _, revoked, _, overrides, _ := m.Keys()
	for _, key := range []string{head, alive, revoked, overrides} {
		must(t, c.Del(ctx(t), key).Err())
		must(t, c.Set(ctx(t), key, "ours", 0).Err())
		if err := errors.Join(m.Override(ctx(t), m.rate("ci", "1/s", time.Hour)), m.Revoke(ctx(t), "zoe", time.Time{})); !errors.Is(err, fleet.ErrNotShared) || m.State().Sharing() || !strings.Contains(m.State().Error, "WRONGTYPE") {
			t.Errorf("%s: %v, %+v", key, err, m.State())
		}
		must(t, c.Del(ctx(t), key).Err())
		must(t, m.Beat(ctx(t)))
		if !m.State().Sharing() || m.State().Unsent != 0 || m.limits() != "ci=1/s/false" {
			t.Errorf("%s: %+v, %q", key, m.State(), m.limits())
		}
	}
	for range 12 {
		must(t, m.Beat(ctx(t)))
	}
	if late := join(t, s.client(t)); !late.out("ann") || !late.out("zoe") || late.limits() != "ci=1/s/false" {
		t.Errorf("%v, %q", late.revoked, late.limits())
	}
}

func TestAServerThatIsNoRedis(t *testing.T) {
	for _, says := range []string{"HTTP/1.1 400 Bad Request\r\n\r\n", "*-5\r\n", "*0\r\n*0\r\n*0\r\n", "$99999999999\r\n", "+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n", "",
		"*6\r\n$3\r\n1", "*2\r\n*1\r\n:1\r\n*1\r\n:1\r\n", "*6\r\n:1\r\n:1\r\n+g\r\n:1\r\n:1\r\n+{\r\n", "-ERR no\r\n", strings.Repeat("*1\r\n", 1000)} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer func() { _ = c.Close() }()
					b := make([]byte, 4096)
					for {
						if _, err := c.Read(b); err != nil {
							return
						}
						_, _ = io.WriteString(c, says)
					}
				}()
			}
		}()
		m := join(t, client(t, redis.UniversalOptions{Addrs: []string{l.Addr().String()}}), func(o *fleet.Options) { o.Timeout = 50 * time.Millisecond })
		if err := m.Revoke(ctx(t), "ann", time.Time{}); !errors.Is(err, fleet.ErrNotShared) || !m.out("ann") || m.State().Error == "" {
			t.Errorf("%q: %v, %+v", says, err, m.State())
		}
		m.Close()
		_ = l.Close()
	}
}

func TestAnInstanceIsGoneWithoutGoodbye(t *testing.T) {
	s := newServer(t)
	start := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	self := func(host string) func(*fleet.Options) {
		return func(o *fleet.Options) {
			o.ID, o.Self = host+"-id", func() fleet.Instance {
				return fleet.Instance{Host: host, Version: "v1.2.3", Config: "7c1e", Started: start, Loaded: start.Add(time.Hour),
					Address: "10.0.0.1:9780", Draining: host == "b", Notes: map[string]string{"upstream": "ok"}}
			}
		}
	}
	a := join(t, s.client(t), self("a"), impatient)
	b := join(t, s.client(t), self("b"), impatient)
	c := join(t, s.client(t), self("c"), impatient)
	hosts := func() (names []string) {
		list, err := a.Instances(ctx(t))
		must(t, err)
		for _, i := range list {
			names = append(names, i.Host)
		}
		return names
	}
	if d := cmp.Diff([]string{"a", "b", "c"}, hosts()); d != "" {
		t.Error(d)
	}
	list, _ := a.Instances(ctx(t))
	got := list[1]
	if got.Seen < 0 || got.Seen > 5*time.Second || got.Clock.Abs() > time.Second {
		t.Errorf("seen %v ago, clock %v", got.Seen, got.Clock)
	}
	got.Seen, got.Clock = 0, 0
	want := fleet.Instance{ID: "b-id", Host: "b", Version: "v1.2.3", Config: "7c1e", Started: start, Loaded: start.Add(time.Hour),
		Address: "10.0.0.1:9780", Draining: true, Notes: map[string]string{"upstream": "ok"}}
	if d := cmp.Diff(want, got); d != "" || !list[0].Self {
		t.Errorf("-want +got\n%s", d)
	}
	c.Close()
	if d := cmp.Diff([]string{"a", "b"}, hosts()); d != "" {
		t.Errorf("after a goodbye: %s", d)
	}
	b.Abandon()
	if d := cmp.Diff([]string{"a", "b"}, hosts()); d != "" {
		t.Errorf("given up at once: %s", d)
	}
	eventually(t, "b is given up", func() bool { return len(hosts()) == 1 })
}

// One that died is still told of, with how long it has been silent, when three
// of its beats are missing.
func TestAnInstanceThatDiedIsRemembered(t *testing.T) {
	s := newServer(t)
	slowly := func(o *fleet.Options) { o.Every, o.Timeout = 300*time.Millisecond, 2*time.Second }
	a, b := join(t, s.client(t), slowly), join(t, s.client(t), slowly)
	b.Abandon()
	eventually(t, "it is silent for longer than three beats and a timeout", func() bool {
		list, err := a.Instances(ctx(t))
		must(t, err)
		return slices.ContainsFunc(list, func(i fleet.Instance) bool { return !i.Self && i.Seen > 3*time.Second })
	})
}

func TestWhatAnInstanceSaysIsBounded(t *testing.T) {
	s := newServer(t)
	long := strings.Repeat("\u00fc", 10_000)
	notes := map[string]string{}
	for i := range 1000 {
		notes[fmt.Sprint(i)] = long
	}
	join(t, s.client(t), func(o *fleet.Options) {
		o.ID, o.Self = "big", func() fleet.Instance {
			return fleet.Instance{Host: "\x1b[2J" + long, Version: long, Config: long, Address: long, Notes: notes}
		}
	})
	a := join(t, s.client(t))
	list, err := a.Instances(ctx(t))
	must(t, err)
	i := slices.IndexFunc(list, func(i fleet.Instance) bool { return i.ID == "big" })
	if i < 0 || len(list[i].Notes) != fleet.MaxNotes || len(list[i].Version) > fleet.MaxText || strings.Contains(list[i].Host, "\x1b") {
		t.Errorf("%+v", list)
	}
	c := s.client(t)
	_, alive, texts, _, _, _, _ := a.Keys()
	pipe := c.Pipeline()
	for i := range fleet.MaxInstances + 5 {
		id := fmt.Sprint("x", i)
		pipe.ZAdd(ctx(t), alive, redis.Z{Score: float64(time.Now().Add(time.Hour).UnixMilli()), Member: id})
		pipe.HSet(ctx(t), texts, id, `{"id":"`+id+`"}`)
	}
	_, err = pipe.Exec(ctx(t))
	must(t, err)
	join(t, s.client(t), func(o *fleet.Options) { o.ID = "one more" })
	if list, err = a.Instances(ctx(t)); err != nil || len(list) > fleet.MaxInstances+1 {
		t.Errorf("%d, %v", len(list), err)
	}
	if n := c.ZCard(ctx(t), alive).Val(); n != int64(fleet.MaxInstances+7) {
		t.Errorf("%d are listed", n)
	}
}

func TestOverridesAreBounded(t *testing.T) {
	s := newServer(t)
	a, b := join(t, s.client(t)), join(t, s.client(t))
	for i := range fleet.MaxOverrides {
		must(t, a.Override(ctx(t), a.rate(fmt.Sprint(i), "1/s", time.Hour)))
	}
	eventually(t, "b has them", func() bool { return len(b.Overrides()) == fleet.MaxOverrides })
	for _, m := range []*member{a, b} {
		if err := m.Override(ctx(t), m.rate("one more", "1/s", time.Hour)); !errors.Is(err, fleet.ErrTooMany) || len(m.Overrides()) != fleet.MaxOverrides {
			t.Error(err)
		}
	}
	must(t, a.Override(ctx(t), a.rate("7", "2/s", time.Hour))) // in place of one
	must(t, a.ClearOverride(ctx(t), "8"))
	must(t, a.Override(ctx(t), a.rate("one more", "1/s", time.Hour)))
	// Full there, and we do not know of it.
	c := s.client(t)
	_, _, _, _, _, overrides, _ := a.Keys()
	must(t, c.HDel(ctx(t), overrides, "one more").Err())
	must(t, c.HSet(ctx(t), overrides, "another", "x").Err())
	must(t, a.ClearOverride(ctx(t), "one more"))
	if err := a.Override(ctx(t), a.rate("the last", "1/s", time.Hour)); !errors.Is(err, fleet.ErrTooMany) || strings.Contains(a.limits(), "the last") {
		t.Errorf("%v, %q", err, a.limits())
	}
	for i := range 3 * fleet.MaxOverrides {
		must(t, c.HSet(ctx(t), overrides, fmt.Sprint("x", i), "x").Err())
	}
	if err := join(t, s.client(t)).State(); err.Sharing() || !strings.Contains(err.Error, "none of them is read") {
		t.Errorf("%+v", err)
	}
}

func TestWhatIsNoOverride(t *testing.T) {
	m := join(t, nil)
	for what, o := range map[string]fleet.Override{
		"nothing": {Limit: "a", Until: time.Now().Add(time.Hour)},
		"over":    m.rate("a", "1/s", 0),
		"long":    m.rate("a", "1/s", fleet.MaxOverrideFor+time.Minute),
		"text":    m.rate(strings.Repeat("a", 300), "1/s", time.Hour),
		"control": m.rate("a", "1/s\n", time.Hour),
	} {
		if err := m.Override(ctx(t), o); err == nil {
			t.Errorf("%s: is one", what)
		}
	}
	for _, user := range []string{strings.Repeat("a", 300), "a\nb", "\xff"} {
		if m.Revoke(ctx(t), user, time.Time{}) == nil {
			t.Errorf("%q: can be revoked", user)
		}
	}
	if m.Revoke(ctx(t), "ann", time.Unix(-1, 0)) == nil || m.Revoke(ctx(t), "ann", time.Unix(1<<50, 0)) == nil || m.told != 0 {
		t.Error("revoked at no time")
	}
}

func TestAnOverrideIsGoneByItself(t *testing.T) {
	s := newServer(t)
	a, b := join(t, s.client(t)), join(t, s.client(t))
	must(t, a.Override(ctx(t), a.rate("ci", "1/s", 300*time.Millisecond)))
	must(t, a.Override(ctx(t), a.rate("people", "1/s", time.Hour)))
	eventually(t, "b has it", func() bool { return len(b.Overrides()) == 2 || len(b.Overrides()) == 1 && b.limits() != "" })
	eventually(t, "it is over on both", func() bool { return len(a.Overrides()) == 1 && len(b.Overrides()) == 1 })
	must(t, b.Beat(ctx(t)))
	late := join(t, s.client(t))
	if b.limits() != "people=1/s/false" || late.limits() != b.limits() {
		t.Errorf("%q, %q", b.limits(), late.limits())
	}
}

func TestRevocationsAreBounded(t *testing.T) {
	s := newServer(t)
	cut := join(t, nil)
	for i := range fleet.MaxRevocations {
		must(t, cut.Revoke(ctx(t), fmt.Sprint("u", i), time.Time{}))
	}
	must(t, cut.Revoke(ctx(t), "one more", time.Time{}))
	if !cut.out("") || cut.out("one more") || len(cut.Revocations()) != fleet.MaxRevocations+1 {
		t.Errorf("%d are kept; everybody is out: %v", len(cut.Revocations()), cut.out(""))
	}
	first := cut.at("")
	must(t, cut.Revoke(ctx(t), "and more", time.Time{}))
	if !cut.at("").After(first) {
		t.Error("the next one changes nothing")
	}

	c := s.client(t)
	a := join(t, s.client(t))
	_, _, _, revoked, revokedAt, _, _ := a.Keys()
	pipe := c.Pipeline()
	for i := range fleet.MaxRevocations {
		user := fmt.Sprint("u", i)
		pipe.ZAdd(ctx(t), revoked, redis.Z{Score: float64(time.Now().Add(time.Hour).UnixMilli()), Member: user})
		pipe.HSet(ctx(t), revokedAt, user, "1763800000000")
	}
	_, err := pipe.Exec(ctx(t))
	must(t, err)
	must(t, a.Revoke(ctx(t), "one more", time.Time{}))
	late := join(t, s.client(t))
	if !late.out("") || len(late.Revocations()) != fleet.MaxRevocations+1 {
		t.Errorf("%d are read; everybody is out: %v", len(late.Revocations()), late.out(""))
	}
}

func TestARestartForgetsNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleet.json")
	keep := func(o *fleet.Options) { o.File = file }
	m := join(t, nil, keep)
	must(t, m.Revoke(ctx(t), "ann", time.Time{}))
	must(t, m.Override(ctx(t), m.rate("ci", "1/s", time.Hour)))
	at := m.at("ann")
	m.Abandon()
	again := join(t, nil, keep)
	if !again.at("ann").Equal(at) || again.limits() != "ci=1/s/false" {
		t.Errorf("%v, %q", again.revoked, again.limits())
	}
	again.Abandon()
	late := join(t, nil, keep, func(o *fleet.Options) {
		c := &clock{}
		c.Advance(26 * time.Hour)
		o.Now = c.Now
	})
	if late.told != 0 || late.limits() != "" {
		t.Errorf("what is over came back: %v, %q", late.revoked, late.limits())
	}
	late.Abandon()
	for _, content := range []string{"", "{", "[]", `{"revoked":[{"user":"a\n","at":-5}],"overrides":[{"limit":"x"}]}`, strings.Repeat(" ", 9<<20)} {
		must(t, os.WriteFile(file, []byte(content), 0o600))
		if m := join(t, nil, keep); m.told != 0 || m.limits() != "" {
			t.Errorf("%.20q: %v", content, m.revoked)
		}
	}
	nowhere := join(t, nil, func(o *fleet.Options) { o.File = filepath.Join(file, "no folder") })
	if err := nowhere.Revoke(ctx(t), "ann", time.Time{}); err == nil || !nowhere.out("ann") {
		t.Errorf("cannot be kept: %v", err)
	}
	if rest, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "*")); len(rest) != 1 {
		t.Errorf("left behind: %v", rest)
	}
}

func TestNothingRunsAfterClose(t *testing.T) {
	s := newServer(t)
	before := runtime.NumGoroutine()
	for range 5 {
		c := s.client(t)
		m := join(t, c, impatient)
		must(t, m.Revoke(ctx(t), "ann", time.Time{}))
		m.Close()
		m.Close()
		_ = c.Close()
	}
	eventually(t, "all goroutines are gone", func() bool { return runtime.NumGoroutine() <= before })
}

// For -race: all do everything at once, and agree in the end.
func TestAllAtOnce(t *testing.T) {
	s := newServer(t)
	all := []*member{join(t, s.client(t)), join(t, s.client(t)), join(t, s.client(t))}
	var wg sync.WaitGroup
	for n, m := range all {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 4))
			for range 60 {
				switch name := fmt.Sprint(r.IntN(5)); r.IntN(6) {
				case 0, 1:
					must(t, m.Revoke(ctx(t), name, time.Time{}))
				case 2:
					must(t, m.Override(ctx(t), m.rate(name, fmt.Sprintf("%d/s", 1+r.IntN(9)), time.Hour)))
				case 3:
					must(t, m.ClearOverride(ctx(t), name))
				case 4:
					must(t, m.Reload(ctx(t), name))
				default:
					_, err := m.Instances(ctx(t))
					must(t, err)
					m.State()
				}
			}
		})
	}
	wg.Wait()
	for _, m := range all {
		must(t, m.Beat(ctx(t)))
	}
	for _, m := range all[1:] {
		m := m
		eventually(t, "all agree", func() bool { return m.limits() == all[0].limits() })
		for user := range all[0].revoked {
			if !m.at(user).Equal(all[0].at(user)) {
				t.Errorf("%s: %v, %v", user, m.at(user), all[0].at(user))
			}
		}
	}
}

// deadClient reaches nobody.
func deadClient(t testing.TB) redis.UniversalClient {
	return client(t, redis.UniversalOptions{Addrs: []string{"127.0.0.1:" + strconv.Itoa(redistest.FreePort(t))}})
}

// line is a connection to Redis that can be cut.
type line struct {
	l    net.Listener
	to   string
	mu   sync.Mutex
	off  bool
	open map[net.Conn]bool
}

func newLine(t testing.TB, to string) *line {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	n := &line{l: l, to: to, open: map[net.Conn]bool{}}
	t.Cleanup(func() { _ = l.Close(); n.cut() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go n.carry(c)
		}
	}()
	return n
}

func (n *line) carry(c net.Conn) {
	far, err := net.Dial("tcp", n.to)
	n.mu.Lock()
	off := n.off
	n.open[c] = true
	if err == nil {
		n.open[far] = true
	}
	n.mu.Unlock()
	if err != nil || off {
		_ = c.Close()
		return
	}
	go func() { _, _ = io.Copy(far, c); _ = far.Close() }()
	_, _ = io.Copy(c, far)
	_ = c.Close()
}

func (n *line) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.off = true
	for c := range n.open {
		_ = c.Close()
	}
	clear(n.open)
}

func (n *line) mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.off = false
}

func (n *line) client(t testing.TB) redis.UniversalClient {
	return client(t, redis.UniversalOptions{Addrs: []string{n.l.Addr().String()}})
}
