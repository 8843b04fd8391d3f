package auth

import lru "github.com/hashicorp/golang-lru/v2"

// shards are LRUs side by side, each with a lock of its own.
type shards[V any] [16]*lru.Cache[cacheKey, V]

func newShards[V any](size int) (s shards[V]) {
	for i := range s {
		s[i], _ = lru.New[cacheKey, V](s.each(size)) // fails only for sizes below 1
	}
	return s
}

func (s *shards[V]) each(size int) int { return max(1, (size+len(s)-1)/len(s)) }

func (s *shards[V]) of(key cacheKey) *lru.Cache[cacheKey, V] { return s[key[0]%16] }

func (s *shards[V]) get(key cacheKey) (V, bool) { return s.of(key).Get(key) }

func (s *shards[V]) add(key cacheKey, v V) { s.of(key).Add(key, v) }

func (s *shards[V]) remove(key cacheKey) { s.of(key).Remove(key) }

func (s *shards[V]) resize(size int) {
	for _, part := range s {
		part.Resize(s.each(size))
	}
}

func (s *shards[V]) len() (n int) {
	for _, part := range s {
		n += part.Len()
	}
	return n
}
