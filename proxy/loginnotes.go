package proxy

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/regward/regward/auth"
)

// What instances tell each other of logins that an upstream was asked about: it
// counts the wrong passwords of a name together, whichever instance asks. While
// they cannot, each counts for itself.

const (
	asking    = "asking" // text of the note of a password that is being asked about
	askingFor = authTimeout + 5*time.Second
	askAgain  = 50 * time.Millisecond // between looks whether another instance is done asking
)

// tryNote is the nth of maxWrong notes about wrong passwords of a name. Upstreams
// on one host share them, as guesses.
func (m *loginMemory) tryNote(user string, n int) string {
	return about("wrong password", m.u.hostname, m.u.port, foldName(user), strconv.Itoa(n))
}

func (m *loginMemory) loginNote(c auth.Credential) string {
	return about("login turned down", m.u.place(), c.User, c.Secret())
}

// turnedDownElsewhere is why a login is not asked about: another instance has
// asked.
func (m *loginMemory) turnedDownElsewhere(ctx context.Context, c auth.Credential, login loginKey) error {
	found, err := m.u.notes.read(ctx, m.loginNote(c))
	if err != nil || found[0].Left <= 0 {
		return nil
	}
	wrong := m.wrong(c)
	m.answers.Add(login, loginAnswer{m.u.Now(), min(found[0].Left, wrongWindow), wrong})
	return wrong
}

// claim counts a password as wrong before it is asked about, so that several
// instances at once do not ask about more than maxWrong. Where all are taken and
// one of them is only being asked about, it waits. try is for tell; "" is none.
func (m *loginMemory) claim(ctx context.Context, c auth.Credential) (try string, err error) {
	if !m.u.notes.kept() {
		return "", nil
	}
	tries := make([]string, maxWrong)
	for i := range tries {
		tries[i] = m.tryNote(c.User, i)
	}
	for {
		for _, try := range tries {
			written, err := m.u.notes.write(ctx, Note{Key: try, Text: asking, Left: askingFor, If: IfAbsent})
			if err != nil {
				return "", nil // each for itself
			}
			if written[0] {
				return try, nil
			}
		}
		taken, err := m.u.notes.read(ctx, tries...)
		if err != nil || c.Known {
			return "", nil
		}
		if !slices.ContainsFunc(taken, func(n Note) bool { return n.Left <= 0 || n.Text == asking }) {
			return "", tooManyGuesses(c, min(wrongWindow, slices.MinFunc(taken, func(a, b Note) int { return int(a.Left - b.Left) }).Left))
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return "", unreachable(ctx.Err())
		}
	}
}

// tell has the other instances know what came of a question.
func (m *loginMemory) tell(ctx context.Context, c auth.Credential, try string, answer error) {
	if !m.u.notes.kept() {
		return
	}
	ctx = context.WithoutCancel(ctx)
	wrong := errors.Is(answer, auth.ErrRejected)
	var list []Note
	if wrong {
		list = append(list, Note{Key: m.loginNote(c), Left: wrongWindow})
	}
	switch {
	case try != "" && wrong:
		list = append(list, Note{Key: try, Left: wrongWindow})
	case try != "":
		list = append(list, Note{Key: try})
	}
	if len(list) > 0 {
		_, _ = m.u.notes.write(ctx, list...) // else each for itself
	}
}
