package auth

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"
)

// Robot is one entry of the file of robots: a login for a program.
type Robot struct {
	Name         string // without the prefix of its login
	Owner        string // whom to ask; "" is nobody in particular
	Repositories []Pattern
	Allow        Actions
	From         []netip.Prefix // networks it must come from; none: any
	Expires      time.Time      // zero: never
	Secrets      []RobotSecret  // one, or two while it is being rotated
	Line         int            // of the file, from 1
}

// RobotSecret is what is kept of a secret.
type RobotSecret struct {
	Hash  RobotHash
	Until time.Time // of the one that was rotated out; zero for the one that stays
}

// Login is the name the robot logs in with.
func (r *Robot) Login() string { return RobotPrefix + r.Name }

// ends is when a secret of the robot is good no more; zero: never.
func (r *Robot) ends(s *RobotSecret) time.Time {
	if s.Until.IsZero() || !r.Expires.IsZero() && r.Expires.Before(s.Until) {
		return r.Expires
	}
	return s.Until
}

// over reports whether end, zero for none, has come.
func over(end, now time.Time) bool { return !end.IsZero() && !now.Before(end) }

// rule is what the robot was given.
func (r *Robot) rule(file string) Rule {
	return Rule{
		Subjects:     []Subject{{token, r.Name}},
		Repositories: r.Repositories,
		Allow:        r.Allow,
		From:         r.From,
		Where:        fmt.Sprintf("robot %s in %s:%d", r.Name, filepath.Base(file), r.Line),
		Given:        true,
	}
}

// RobotFile is one reading of the file of robots. It is immutable. A nil one
// has no robots.
type RobotFile struct {
	Name   string            // of the file
	Sum    [sha256.Size]byte // of its content
	Robots []Robot           // in its order
	byName map[string]int
}

// Rules are what the robots were given, to be compiled behind those of the
// configuration.
func (f *RobotFile) Rules() []Rule {
	if f == nil {
		return nil
	}
	rules := make([]Rule, len(f.Robots))
	for i := range f.Robots {
		rules[i] = f.Robots[i].rule(f.Name)
	}
	return rules
}

// Find is the robot of a name, with the prefix of its login or without; nil if
// there is none.
func (f *RobotFile) Find(name string) *Robot {
	if f == nil {
		return nil
	}
	if i, ok := f.byName[strings.TrimPrefix(name, RobotPrefix)]; ok {
		return &f.Robots[i]
	}
	return nil
}

// Identity is who logs in by a robot's login name, for what is explained; it is
// not ok if no robot does.
func (f *RobotFile) Identity(login string) (id Identity, ok bool) {
	if !strings.HasPrefix(login, RobotPrefix) || f.Find(login) == nil {
		return Identity{}, false
	}
	return Identity{Name: login, Via: viaRobot}, true
}

// CheckRobotName says what is wrong with a robot's name, as a *SyntaxError. It
// is plain: it stands in shells, URLs and YAML without quotes, and in Harbor's
// robots the $ does not.
func CheckRobotName(name string) error {
	switch {
	case name == "":
		return &SyntaxError{Msg: "a robot's name is empty", Fix: "write one like ci"}
	case strings.HasPrefix(name, RobotPrefix):
		return &SyntaxError{
			Msg: fmt.Sprintf("%s: the prefix %s is put in front when it logs in", shorten(name), RobotPrefix),
			Fix: "write " + strings.TrimPrefix(name, RobotPrefix),
		}
	case len(name) > MaxRobotName:
		return &SyntaxError{Msg: fmt.Sprintf("robot %s: the name is longer than %d letters", shorten(name), MaxRobotName), Fix: "choose a shorter one"}
	case !alnum(name[0]) || !only(name, "abcdefghijklmnopqrstuvwxyz0123456789._-"):
		return &SyntaxError{Msg: fmt.Sprintf("no robot can be named %s", shorten(name)), Fix: "write small letters, digits, and . _ - behind the first"}
	}
	return nil
}

// ParseNetwork reads a network of a robot: 10.0.0.0/8, or one address. The
// error is a *SyntaxError.
func ParseNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return p, &SyntaxError{Msg: fmt.Sprintf("%s is neither a network nor an address", shorten(text)), Fix: "write one like 10.0.0.0/8"}
	case p.Addr().Is4In6():
		return p, &SyntaxError{Msg: fmt.Sprintf("%s: an IPv4 network is written as one", shorten(text)), Fix: "write one like 10.0.0.0/8"}
	case p != p.Masked():
		return p, &SyntaxError{Msg: fmt.Sprintf("%s: the address is not where its network begins", shorten(text)), Fix: fmt.Sprintf("write %s for the network, %s for the address", p.Masked(), p.Addr())}
	}
	return p, nil
}

// CheckRobotPattern refuses what is no robot's: the names of callers are put in
// for people.
func CheckRobotPattern(p Pattern) error {
	if p.placeholders() {
		return &SyntaxError{Msg: fmt.Sprintf("pattern %q: a robot is in no group, and what it may is its own anyway", p), Fix: "write the repositories themselves"}
	}
	return nil
}

// RobotFault is why a robot is turned down whose secret is right.
type RobotFault uint8

// The faults.
const (
	RobotExpired   RobotFault = iota + 1
	RobotRotated              // its secret was replaced, and the overlap is over
	RobotElsewhere            // it is not in one of its networks
)

// RobotError is a robot whose secret is right and who is turned down all the
// same. It is no ErrRejected: nobody guesses here, so it locks nobody out, and
// what is to be repaired is another thing than a wrong password.
type RobotError struct {
	Robot string // without prefix
	Fault RobotFault
	At    time.Time  // since when, of the first two
	Addr  netip.Addr // where it is, of the last
}

// Error is for records: "expired robot ci".
func (e *RobotError) Error() string {
	switch e.Fault {
	case RobotExpired:
		return "expired robot " + e.Robot
	case RobotRotated:
		return "rotated secret of robot " + e.Robot
	}
	return "robot " + e.Robot + " from elsewhere"
}

// Words is the sentence for who holds the secret, without a full stop.
func (e *RobotError) Words() string {
	const clock = "2006-01-02 15:04 UTC"
	switch e.Fault {
	case RobotExpired:
		return fmt.Sprintf("robot %s has expired on %s", e.Robot, e.At.UTC().Format(clock))
	case RobotRotated:
		return fmt.Sprintf("this secret of robot %s was replaced, and ended on %s: use the new one", e.Robot, e.At.UTC().Format(clock))
	}
	return fmt.Sprintf("robot %s may not log in from %s", e.Robot, e.Addr)
}

// asSyntax takes an error apart into what is wrong and what to write.
func asSyntax(err error) (msg, fix string) {
	if syntax := (*SyntaxError)(nil); errors.As(err, &syntax) {
		return syntax.Msg, syntax.Fix
	}
	return err.Error(), ""
}
