package main

import (
	"errors"
	"io"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"github.com/regward/regward/configs"
)

// The places of the three logs in every list of them.
const (
	mainLog = iota
	accessLog
	auditLog
)

// logNames are what metrics call them.
var logNames = [...]string{mainLog: "main", accessLog: "access", auditLog: "audit"}

// tellDropped is how often the process's own log says that lines are dropped.
const tellDropped = time.Minute

// logs are the three logs of the process. The loggers live as long as it does;
// a reload changes what is behind them.
type logs struct {
	main, access, audit *zap.Logger

	cores   [3]*swapCore
	stdout  *sink
	term    bool             // stdout is a terminal
	dropped [3]atomic.Uint64 // lines there was no room for
	told    atomic.Int64     // when that was said, in nanoseconds since 1970

	mu    sync.Mutex // guards what follows
	cfg   configs.Log
	sinks []*sink
}

// newLogs makes silent logs; open and use give them a voice.
func newLogs(stdout io.Writer) *logs {
	l := &logs{stdout: newSink("stdout", stdout, nil)}
	if f, ok := stdout.(*os.File); ok {
		l.term = term.IsTerminal(int(f.Fd()))
	}
	for i := range l.cores {
		l.cores[i] = newSwapCore()
	}
	l.main, l.access, l.audit = zap.New(l.cores[mainLog]), zap.New(l.cores[accessLog]), zap.New(l.cores[auditLog])
	return l
}

// door is the way of one log into s.
func (l *logs) door(log int, s *sink) *door {
	d := &door{sink: s, room: sinkRoom, prompt: log == mainLog, dropped: &l.dropped[log], told: func(dest string) { l.tellDropped(log, dest) }}
	if log == accessLog {
		d.room = accessRoom
	}
	return d
}

// tellDropped says in the process's own log that another one loses lines. Of
// its own it cannot say so.
func (l *logs) tellDropped(log int, dest string) {
	if log == mainLog {
		return
	}
	told, now := l.told.Load(), time.Now().UnixNano()
	if now-told < int64(tellDropped) || !l.told.CompareAndSwap(told, now) {
		return
	}
	l.main.Error("log lines dropped: "+dest+" takes them too slowly, or not at all",
		zap.String("log", logNames[log]), zap.Uint64("dropped", l.dropped[log].Load()))
}

// logSet is a set of open sinks and the cores over them, not yet in use.
type logSet struct {
	cfg   configs.Log
	cores [3]zapcore.Core
	sinks []*sink
}

// open opens all that cfg names, or fails and leaves nothing open. It returns
// nil if that is what is in use already.
func (l *logs) open(cfg configs.Log) (*logSet, error) {
	l.mu.Lock()
	same := l.sinks != nil && reflect.DeepEqual(l.cfg, cfg)
	l.mu.Unlock()
	if same {
		return nil, nil
	}
	level, err := zapcore.ParseLevel(cfg.Level)
	if err != nil {
		return nil, err
	}
	set := &logSet{cfg: cfg, sinks: []*sink{}}
	encoder := zapcore.NewJSONEncoder
	if cfg.Format == "console" || cfg.Format == "" && l.term {
		encoder = zapcore.NewConsoleEncoder
	}
	set.cores[mainLog] = zapcore.NewCore(encoder(encoding("level")), l.door(mainLog, l.stdout), level)
	for log, dest := range map[int]string{accessLog: cfg.Access, auditLog: cfg.Audit} {
		sink, err := set.sink(dest, l.stdout)
		if err != nil {
			set.close()
			return nil, err
		}
		set.cores[log] = zapcore.NewNopCore()
		if sink != nil {
			enc := encoder
			if sink.file != nil {
				enc = zapcore.NewJSONEncoder // files are for programs, terminal or not
			}
			set.cores[log] = zapcore.NewCore(enc(encoding("")), l.door(log, sink), zapcore.InfoLevel)
		}
	}
	if len(cfg.AuditEvents) > 0 {
		set.cores[auditLog] = eventCore{set.cores[auditLog], auditEvents(cfg.AuditEvents)}
	}
	return set, nil
}

// use puts set in force and closes what was.
func (l *logs) use(set *logSet) {
	if set == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, c := range set.cores {
		l.cores[i].swap(c)
	}
	old := l.sinks
	l.cfg, l.sinks = set.cfg, set.sinks
	for _, s := range old {
		s.close()
	}
}

// reopen opens log files again, by name, after logrotate moved them.
func (l *logs) reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, s := range l.sinks {
		errs = append(errs, s.reopen())
	}
	return errors.Join(errs...)
}

// close writes what is still gathered, and says how much was dropped in all.
func (l *logs) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.sinks {
		s.close()
	}
	l.sinks = nil
	for log, name := range logNames {
		if n := l.dropped[log].Load(); n > 0 {
			l.main.Error("log lines dropped since the start, in all", zap.String("log", name), zap.Uint64("dropped", n))
		}
	}
	l.stdout.close()
}

// sink is the destination dest; destinations of one name are shared, so that
// their lines do not cut each other. It is nil for "off". Files belong to the
// set, stdout to the process.
func (set *logSet) sink(dest string, stdout *sink) (*sink, error) {
	switch dest {
	case "off", "":
		return nil, nil
	case "stdout":
		return stdout, nil
	}
	for _, s := range set.sinks {
		if s.name == dest {
			return s, nil
		}
	}
	file, err := openLogFile(dest)
	if err != nil {
		return nil, err
	}
	s := newSink(dest, file, file)
	set.sinks = append(set.sinks, s)
	return s, nil
}

func (set *logSet) close() {
	if set == nil {
		return
	}
	for _, s := range set.sinks {
		s.close()
	}
}

// encoding is the shape of a line; level is the key of the level, "" for none.
func encoding(level string) zapcore.EncoderConfig {
	return zapcore.EncoderConfig{
		TimeKey:     "time",
		LevelKey:    level,
		MessageKey:  "msg",
		NameKey:     "logger",
		EncodeLevel: zapcore.LowercaseLevelEncoder,
		EncodeTime: func(t time.Time, e zapcore.PrimitiveArrayEncoder) {
			// Less its duration it is when a request came, and replay puts those in
			// order: many are less than a millisecond apart.
			const layout = "2006-01-02T15:04:05.000000Z07:00"
			if e, ok := e.(interface{ AppendTimeLayout(time.Time, string) }); ok {
				e.AppendTimeLayout(t.UTC(), layout)
				return
			}
			e.AppendString(t.UTC().Format(layout))
		},
		EncodeDuration: zapcore.MillisDurationEncoder,
		LineEnding:     zapcore.DefaultLineEnding,
	}
}

// swapCore is a core that can be replaced under a running logger. What With
// derives from it keeps the core of its time.
type swapCore struct{ core atomic.Pointer[zapcore.Core] }

func newSwapCore() *swapCore {
	s := &swapCore{}
	s.swap(zapcore.NewNopCore())
	return s
}

func (s *swapCore) swap(c zapcore.Core)                            { s.core.Store(&c) }
func (s *swapCore) now() zapcore.Core                              { return *s.core.Load() }
func (s *swapCore) Enabled(l zapcore.Level) bool                   { return s.now().Enabled(l) }
func (s *swapCore) With(f []zapcore.Field) zapcore.Core            { return s.now().With(f) }
func (s *swapCore) Write(e zapcore.Entry, f []zapcore.Field) error { return s.now().Write(e, f) }
func (s *swapCore) Sync() error                                    { return s.now().Sync() }

// Check lets the core in force add itself, so that one entry is written by the
// core that took it.
func (s *swapCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return s.now().Check(e, ce)
}

// auditEvents are the events that the words of log.audit_events choose.
func auditEvents(chosen []string) (events []string) {
	for _, word := range chosen {
		switch word {
		case "logins":
			events = append(events, "login", "login_failed")
		case "denials":
			events = append(events, "denied", "throttled")
		case "pulls":
			events = append(events, "pull")
		case "pushes":
			events = append(events, "push")
		case "deletes":
			events = append(events, "delete")
		case "reloads":
			events = append(events, "reload", "override", "reset")
		case "revocations":
			events = append(events, "revocation")
		}
	}
	return events
}

// eventCore lets only the events pass that log.audit_events chose.
type eventCore struct {
	zapcore.Core
	events []string
}

func (c eventCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !slices.Contains(c.events, e.Message) {
		return ce
	}
	return c.Core.Check(e, ce)
}
