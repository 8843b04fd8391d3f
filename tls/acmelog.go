package tls

import (
	"go.uber.org/zap/zapcore"
)

// quietCore is the log of certmagic in ours. What it does is told by us, once and
// in words an operator can use; its own account of it, some twenty lines for one
// certificate, is there at level debug.
type quietCore struct{ zapcore.Core }

// Enabled implements zapcore.LevelEnabler: debug lines of certmagic are for those
// who work on it.
func (c quietCore) Enabled(l zapcore.Level) bool {
	return l >= zapcore.InfoLevel && c.Core.Enabled(zapcore.DebugLevel)
}

// With implements zapcore.Core.
func (c quietCore) With(fields []zapcore.Field) zapcore.Core { return quietCore{c.Core.With(fields)} }

// Check implements zapcore.Core.
func (c quietCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write implements zapcore.Core.
func (c quietCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	e.Level, e.Message, e.Stack = zapcore.DebugLevel, "ACME: "+e.Message, ""
	return c.Core.Write(e, fields)
}

// telling also tells try of each challenge that failed: the error that is returned
// has the last one alone.
func (c quietCore) telling(try *attempt) zapcore.Core { return tellingCore{c, try, nil} }

type tellingCore struct {
	zapcore.Core
	try    *attempt
	fields []zapcore.Field
}

func (c tellingCore) Enabled(zapcore.Level) bool { return true }

func (c tellingCore) With(fields []zapcore.Field) zapcore.Core {
	return tellingCore{c.Core.With(fields), c.try, append(c.fields[:len(c.fields):len(c.fields)], fields...)}
}

func (c tellingCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.Message == "challenge failed" {
		ce = ce.AddCore(e, challengeCore{c})
	}
	return c.Core.Check(e, ce)
}

// challengeCore takes the one kind of line.
type challengeCore struct{ tellingCore }

func (c challengeCore) Write(_ zapcore.Entry, fields []zapcore.Field) error {
	known := zapcore.NewMapObjectEncoder()
	for _, f := range append(c.fields[:len(c.fields):len(c.fields)], fields...) {
		f.AddTo(known)
	}
	kind, _ := known.Fields["challenge_type"].(string)
	problem, _ := known.Fields["problem"].(map[string]any)
	detail, _ := problem["detail"].(string)
	c.try.challenges = append(c.try.challenges, failedChallenge{kind, detail})
	return nil
}
