package auth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// RobotUses knows when each secret was last used here. It belongs to the
// process and outlives reloads; a nil one knows nothing.
type RobotUses struct {
	mu   sync.Mutex
	used map[string]*atomic.Int64 // by robot and secret; seconds since 1970, 0 for never
}

// NewRobotUses continues from what Save returned before; data may be empty. The
// uses are usable even with an error: none is known then.
func NewRobotUses(data []byte) (*RobotUses, error) {
	u := &RobotUses{used: map[string]*atomic.Int64{}}
	if len(data) == 0 {
		return u, nil
	}
	var saved map[string]time.Time
	if err := json.Unmarshal(data, &saved); err != nil {
		return u, fmt.Errorf("cannot be read: %w", err)
	}
	for key, at := range saved {
		if len(u.used) >= MaxRobots*MaxRobotSecrets {
			break
		}
		u.used[key] = new(atomic.Int64)
		u.used[key].Store(at.Unix())
	}
	return u, nil
}

func useKey(robot string, hash RobotHash) string { return robot + "/" + hash.ID() }

func (u *RobotUses) of(robot string, hash RobotHash) *atomic.Int64 {
	if u == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	key := useKey(robot, hash)
	if u.used[key] == nil {
		u.used[key] = new(atomic.Int64)
	}
	return u.used[key]
}

// Last is when a secret of a robot was last used; zero: never, as far as is
// known.
func (u *RobotUses) Last(robot string, hash RobotHash) time.Time {
	if u == nil {
		return time.Time{}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if used := u.used[useKey(robot, hash)]; used != nil && used.Load() != 0 {
		return time.Unix(used.Load(), 0).UTC()
	}
	return time.Time{}
}

// Save is what NewRobotUses reads, equal for equal uses. Secrets that are not
// in f any more are forgotten.
func (u *RobotUses) Save(f *RobotFile) []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	kept, saved := map[string]*atomic.Int64{}, map[string]time.Time{}
	if f != nil {
		for i := range f.Robots {
			for _, s := range f.Robots[i].Secrets {
				key := useKey(f.Robots[i].Name, s.Hash)
				if used := u.used[key]; used != nil {
					kept[key] = used
					if at := used.Load(); at != 0 {
						saved[key] = time.Unix(at, 0).UTC()
					}
				}
			}
		}
	}
	u.used = kept
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetIndent("", " ")
	_ = e.Encode(saved) // strings and times: cannot fail
	return text.Bytes()
}
