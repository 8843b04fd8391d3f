package auth

import (
	"context"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
)

// RobotOptions are what the file does not say.
type RobotOptions struct {
	CaseSensitive bool

	// Key keys the proofs that tokens carry. It must be the same over restarts
	// and on all instances: Tokens.Derive("robot proof")[0].
	Key  ProofKey
	Now  func() time.Time
	Uses *RobotUses // nil: nobody asks when a secret was last used
}

// Robots is the Authenticator of robots, over one reading of their file. It is
// immutable.
//
// A password in the form of a robot's secret is its own and nobody else's: it
// is turned down here and never shown to a directory, and any other password is
// none of its business. So a name is turned down as fast whether a robot has it
// or not.
type Robots struct {
	robots map[string]*robot // by login name
	fold   bool
	now    func() time.Time
}

type robot struct {
	*Robot
	proofs [][16]byte // of each secret
	used   []*atomic.Int64
}

// NewRobots makes the provider; f may be nil.
func NewRobots(f *RobotFile, o RobotOptions) *Robots {
	x := &Robots{robots: map[string]*robot{}, fold: !o.CaseSensitive, now: o.Now}
	if f == nil {
		return x
	}
	for i := range f.Robots {
		r := &robot{Robot: &f.Robots[i]}
		login := r.Login()
		for j := range r.Secrets {
			hash := r.Secrets[j].Hash
			r.proofs = append(r.proofs, prove(o.Key, login, hash.String()))
			r.used = append(r.used, o.Uses.of(r.Name, hash))
		}
		x.robots[login] = r
	}
	return x
}

func (x *Robots) find(user string) *robot {
	if x.fold {
		user = strings.ToLower(user)
	}
	return x.robots[user]
}

// Authenticate checks a robot's secret. One that is right and good no more, or
// not from where it comes (if c says that), is a *RobotError.
func (x *Robots) Authenticate(_ context.Context, c Credential) (Identity, error) {
	if c.Kind != Basic || !isRobotSecret(c.Secret()) {
		return Identity{}, ErrNotMine
	}
	r := x.find(c.User)
	if r == nil {
		if !strings.HasPrefix(strings.ToLower(c.User), RobotPrefix) {
			return Identity{}, &Rejection{viaRobot, fmt.Sprintf("a robot's secret, and robots log in as %sNAME", RobotPrefix), UnknownUser}
		}
		return Identity{}, &Rejection{viaRobot, "no robot has that login", UnknownUser}
	}
	at := r.match(hashSecret(c.Secret()))
	if at < 0 {
		return Identity{}, &Rejection{viaRobot, "a secret that robot " + r.Name + " does not have, or has no more", WrongPassword}
	}
	if err := r.ended(at, x.now()); err != nil {
		return Identity{}, err
	}
	if c.Addr.IsValid() && !contains(r.From, c.Addr) {
		return Identity{}, &RobotError{Robot: r.Name, Fault: RobotElsewhere, Addr: c.Addr}
	}
	return Identity{Name: r.Login(), Via: viaRobot, Expires: r.ends(&r.Secrets[at]), Proof: r.proofs[at]}, nil
}

// match is the secret of a hash, -1 if the robot has none. All are compared, in
// constant time.
func (r *robot) match(hash RobotHash) int {
	at := -1
	for i := range r.Secrets {
		at = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(r.Secrets[i].Hash[:], hash[:]), i, at)
	}
	return at
}

// ended is why a secret is good no more, nil while it is.
func (r *robot) ended(at int, now time.Time) error {
	if over(r.Expires, now) {
		return &RobotError{Robot: r.Name, Fault: RobotExpired, At: r.Expires}
	}
	if until := r.Secrets[at].Until; over(until, now) {
		return &RobotError{Robot: r.Name, Fault: RobotRotated, At: until}
	}
	return nil
}

// Proof is the keyed hashes of the robot's secrets, when each ends, and whether
// the robot is where it may be; nothing for what is no robot's.
func (x *Robots) Proof(c Credential) []byte {
	if c.Kind != Basic || !isRobotSecret(c.Secret()) {
		return nil
	}
	r := x.find(c.User)
	if r == nil {
		return nil
	}
	var all []byte
	for i := range r.Secrets {
		all = append(all, r.proofs[i][:]...)
		all = binary.BigEndian.AppendUint64(all, uint64(r.ends(&r.Secrets[i]).Unix()))
	}
	if c.Addr.IsValid() && !contains(r.From, c.Addr) {
		all = append(all, "elsewhere"...)
	}
	return all
}

// Current reports whether the secret that proved id is still the robot's, and
// has not ended. It does not allocate.
func (x *Robots) Current(id *Identity) bool {
	r, at := x.proven(id)
	return r != nil && !over(r.ends(&r.Secrets[at]), x.now())
}

// proven is the robot and the secret of it that proved id; nil if it is gone.
func (x *Robots) proven(id *Identity) (r *robot, at int) {
	if x == nil || id.Via != viaRobot {
		return nil, 0
	}
	r = x.robots[id.Name]
	if r == nil {
		return nil, 0
	}
	for i := range r.proofs {
		if subtle.ConstantTimeCompare(r.proofs[i][:], id.Proof[:]) == 1 {
			return r, i
		}
	}
	return nil, 0
}

// Admit is asked at every request of a robot, with a password or a token: a
// *RobotError if its secret has ended, or it is not in one of its networks; else
// its use is noted. It says nothing about anybody else, nor of a secret that the
// robot has no more: that is Current's. A nil Robots has none. Unless it refuses,
// it does not allocate.
func (x *Robots) Admit(id *Identity, addr netip.Addr) error {
	r, at := x.proven(id)
	if r == nil {
		return nil
	}
	if err := r.ended(at, x.now()); err != nil {
		return err
	}
	if !contains(r.From, addr) {
		return &RobotError{Robot: r.Name, Fault: RobotElsewhere, Addr: addr}
	}
	if used := r.used[at]; used != nil {
		used.Store(x.now().Unix())
	}
	return nil
}
