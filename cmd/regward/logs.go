package main

import (
	"errors"
	"io"
	"io/fs"
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

// Lines of the access and the audit log are gathered, so that a request never
// waits for a disk.
const (
	logBuffer = 256 << 10
	logFlush  = time.Second
)

// logs are the three logs of the process. The loggers live as long as it does;
// a reload changes what is behind them.
type logs struct {
	main, access, audit *zap.Logger

	cores  [3]*swapCore // of main, access, audit
	stdout zapcore.WriteSyncer
	term   bool // stdout is a terminal

	mu    sync.Mutex // guards what follows
	cfg   configs.Log
	sinks []*sink
}

// newLogs makes silent logs; open and use give them a voice.
func newLogs(stdout io.Writer) *logs {
	l := &logs{stdout: zapcore.Lock(noSync{stdout})}
	if f, ok := stdout.(*os.File); ok {
		l.term = term.IsTerminal(int(f.Fd()))
	}
	for i := range l.cores {
		l.cores[i] = newSwapCore()
	}
	l.main, l.access, l.audit = zap.New(l.cores[0]), zap.New(l.cores[1]), zap.New(l.cores[2])
	return l
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
	set.cores[0] = zapcore.NewCore(encoder(encoding("level")), l.stdout, level)
	for i, dest := range []string{cfg.Access, cfg.Audit} {
		sink, err := set.sink(dest, l.stdout)
		if err != nil {
			set.close()
			return nil, err
		}
		set.cores[i+1] = zapcore.NewNopCore()
		if sink != nil {
			enc := encoder
			if sink.file != nil {
				enc = zapcore.NewJSONEncoder // files are for programs, terminal or not
			}
			set.cores[i+1] = zapcore.NewCore(enc(encoding("")), sink, zapcore.InfoLevel)
		}
	}
	if len(cfg.AuditEvents) > 0 {
		set.cores[2] = eventCore{set.cores[2], auditEvents(cfg.AuditEvents)}
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

// close writes what is still gathered.
func (l *logs) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.sinks {
		s.close()
	}
	l.sinks = nil
}

// sink is the destination dest; destinations of one name are shared, so that
// their lines do not cut each other. It is nil for "off".
func (set *logSet) sink(dest string, stdout zapcore.WriteSyncer) (*sink, error) {
	if dest == "off" || dest == "" {
		return nil, nil
	}
	for _, s := range set.sinks {
		if s.name == dest {
			return s, nil
		}
	}
	s := &sink{name: dest}
	target := stdout
	if dest != "stdout" {
		f, err := openLog(dest)
		if err != nil {
			return nil, err
		}
		s.file = &logFile{path: dest, f: f}
		target = s.file
	}
	s.BufferedWriteSyncer = &zapcore.BufferedWriteSyncer{WS: target, Size: logBuffer, FlushInterval: logFlush}
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

// sink is one destination of access or audit lines.
type sink struct {
	*zapcore.BufferedWriteSyncer
	name string
	file *logFile // nil for stdout
}

func (s *sink) reopen() error {
	if s.file == nil {
		return nil
	}
	_ = s.Sync() // into the old file, where these lines belong
	return s.file.reopen()
}

func (s *sink) close() {
	_ = s.Stop()
	if s.file != nil {
		s.file.close()
	}
}

// logFile is a file that can be opened again under its name.
type logFile struct {
	path string
	mu   sync.Mutex
	f    *os.File
}

func openLog(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Write(p)
}

// Sync does nothing: what the kernel has survives the process, and an fsync a
// second is a load that nobody asked for.
func (l *logFile) Sync() error { return nil }

func (l *logFile) reopen() error {
	f, err := openLog(l.path)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.f
	l.f = f
	return old.Close()
}

func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.f.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return
	}
}

// noSync is a writer whose Sync is none: terminals and pipes answer EINVAL.
type noSync struct{ io.Writer }

func (noSync) Sync() error { return nil }

// encoding is the shape of a line; level is the key of the level, "" for none.
func encoding(level string) zapcore.EncoderConfig {
	return zapcore.EncoderConfig{
		TimeKey:     "time",
		LevelKey:    level,
		MessageKey:  "msg",
		NameKey:     "logger",
		EncodeLevel: zapcore.LowercaseLevelEncoder,
		EncodeTime: func(t time.Time, e zapcore.PrimitiveArrayEncoder) {
			const layout = "2006-01-02T15:04:05.000Z07:00"
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
			events = append(events, "reload")
		case "revocations": // none yet
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
