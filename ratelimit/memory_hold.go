package ratelimit

import (
	"context"
	"strings"
)

// places are those taken of one key, and of how many when last asked.
type places struct{ taken, most int }

// Hold implements Limiter; ctx is not looked at, nothing here waits.
//
// A key is known while something of it is held, and forgotten with the last.
// Of more keys than `keys` at once those beyond share one per limit.
func (m *Memory) Hold(_ context.Context, holdings ...Holding) (func(), Result, error) {
	for i := range holdings {
		if err := holdings[i].checked(); err != nil {
			return nothing, Result{}, err
		}
	}
	keys := make([]Key, 0, len(holdings))
	least := Result{OK: true, Index: -1}

	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range holdings {
		most := holdings[i].Most
		if most == 0 {
			continue
		}
		key := m.place(holdings[i].Key)
		p := m.held[key]
		if p.taken >= most {
			m.leave(keys)
			return nothing, Result{Index: i, Limit: most}, nil
		}
		p.taken++
		if most < AnyPlace || p.most == 0 {
			p.most = most
		}
		m.held[key] = p
		keys = append(keys, key)
		if left := most - p.taken; least.Index < 0 || left < least.Remaining {
			least = Result{OK: true, Index: i, Limit: most, Remaining: left}
		}
	}
	if len(keys) == 0 {
		return nothing, least, nil
	}
	return m.release(keys), least, nil
}

func nothing() {}

// place is the key under which k is counted.
func (m *Memory) place(k Key) Key {
	k = k.stored()
	if _, ok := m.held[k]; !ok && len(m.held) >= m.keys {
		return Key{Limit: k.Limit, Client: Shared}
	}
	k.Client = strings.Clone(k.Client) // it may be a slice of something larger
	return k
}

// release leaves the places of keys, once.
func (m *Memory) release(keys []Key) func() {
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.leave(keys)
		keys = nil
	}
}

// leave gives back one place of each of keys; m.mu is held.
func (m *Memory) leave(keys []Key) {
	for _, k := range keys {
		p := m.held[k]
		if p.taken--; p.taken <= 0 {
			delete(m.held, k)
			continue
		}
		m.held[k] = p
	}
}
