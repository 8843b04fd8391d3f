package auth

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// Bearer verifies a token of ours, or remembers that it did. The identity is
// shared and must not be changed. See Tokens.Verify for errors; a token that
// another instance made for later than TokenLeeway from now is rejected too, and
// one that a revocation has ended is ErrRevoked.
func (k *Cache) Bearer(t *Tokens, token, audience string) (*Identity, error) {
	if len(token) > MaxToken {
		return nil, rejected("too long")
	}
	key := k.tokenKey(t, token, audience)
	if id, ok := k.tokens.get(key); ok {
		k.hits.Add(1)
		if k.revoked.ended(id) {
			return nil, ErrRevoked
		}
		return id, nil
	}
	if _, ok := k.forged.get(key); ok {
		k.hits.Add(1)
		return nil, errSignature
	}
	k.misses.Add(1)
	id, notBefore, err := t.verify(token, audience)
	if err != nil {
		if errors.Is(err, errSignature) {
			k.forged.add(key, struct{}{})
		}
		return nil, err
	}
	if notBefore.After(k.now().Add(TokenLeeway)) {
		return nil, rejected("not valid yet")
	}
	k.tokens.add(key, &id)
	if k.revoked.ended(&id) {
		return nil, ErrRevoked
	}
	return &id, nil
}

// tokenKey is a plain hash, but of something nobody can guess; the set of keys
// is in it, so that a reload with other keys misses.
func (k *Cache) tokenKey(t *Tokens, token, audience string) cacheKey {
	buffer := k.buffers.Get().(*[]byte)
	b := append((*buffer)[:0], t.set[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(audience)))
	b = append(b, audience...)
	b = append(b, token...)
	key := cacheKey(sha256.Sum256(b))
	*buffer = b
	k.buffers.Put(buffer)
	return key
}
