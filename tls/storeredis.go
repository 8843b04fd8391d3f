package tls

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/redis/go-redis/v9"
)

const (
	// lockLease is how long a lock lasts that nobody renews: its owner is gone.
	lockLease = 30 * time.Second
	// answerWithin bounds each call; no request of a client waits for one.
	answerWithin = 3 * time.Second
	// maxKeys bounds what is kept for all instances.
	maxKeys = 10_000
	// sealedBy is the first byte of a value, for a change of the form one day.
	sealedBy = 1
)

// Redis keeps what belongs to ACME for several instances, in one hash and one
// key for each lock:
//
//	PREFIX:{fleet}:acme            hash: key to sealed value
//	PREFIX:{fleet}:acme:lock:NAME  token of who holds it, for 30 seconds at a time
//
// Values are sealed (AES-256-GCM, bound to their key): who reads Redis learns no
// private key, and who writes to it can put no value in another's place.
type Redis struct {
	client redis.UniversalClient
	hash   string
	seals  []cipher.AEAD // the first seals, all open
	lease  time.Duration
	locks  held[*lease]
}

// lease is one lock that is held.
type lease struct {
	token string
	end   context.CancelFunc
	ended sync.WaitGroup
}

// ErrSealed reports a value that was sealed by a key that is not ours.
var ErrSealed = errors.New("it was sealed by another key: do all instances have the same token.key_file?")

// NewRedis is a storage in the Redis behind client. It asks nothing yet. Keys
// below prefix are shared by all instances that have one of the keys; of those
// the first seals.
func NewRedis(client redis.UniversalClient, prefix string, keys [][32]byte) (*Redis, error) {
	r := &Redis{client: client, hash: prefix + ":{fleet}:acme", lease: lockLease}
	for _, key := range keys {
		block, err := aes.NewCipher(key[:])
		if err != nil {
			return nil, err
		}
		seal, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		r.seals = append(r.seals, seal)
	}
	if len(r.seals) == 0 {
		return nil, errors.New("nothing seals what is written to Redis")
	}
	return r, nil
}

func (r *Redis) seal(key string, value []byte) string {
	nonce := make([]byte, r.seals[0].NonceSize())
	rand.Read(nonce)
	return string(r.seals[0].Seal(append([]byte{sealedBy}, nonce...), nonce, value, []byte(key)))
}

// open reports by which key value was sealed, too.
func (r *Redis) open(key, sealed string) (value []byte, by int, err error) {
	for i, seal := range r.seals {
		n := 1 + seal.NonceSize()
		if len(sealed) < n || sealed[0] != sealedBy {
			break
		}
		if value, err := seal.Open(nil, []byte(sealed[1:n]), []byte(sealed[n:]), []byte(key)); err == nil {
			return value, i, nil
		}
	}
	return nil, 0, fmt.Errorf("%s in Redis cannot be read: %w", key, ErrSealed)
}

// storeScript refuses what would be one key too many.
const storeScript = `
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1`

// Store puts value at key.
func (r *Redis) Store(ctx context.Context, key string, value []byte) error {
	if len(value) > maxStored {
		return fmt.Errorf("%s: %d bytes are more than the %d that are kept", key, len(value), maxStored)
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	stored, err := r.client.Eval(ctx, storeScript, []string{r.hash}, key, r.seal(key, value), maxKeys).Int()
	if err != nil {
		return asked(err)
	}
	if stored == 0 {
		return fmt.Errorf("Redis holds %d values below %s already", maxKeys, r.hash)
	}
	return nil
}

// Load is fs.ErrNotExist for what is not there, and ErrSealed for what somebody
// with other keys has written. What an older key has sealed is sealed anew.
func (r *Redis) Load(ctx context.Context, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	sealed, err := r.client.HGet(ctx, r.hash, key).Result()
	if errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("%s in Redis: %w", key, fs.ErrNotExist)
	}
	if err != nil {
		return nil, asked(err)
	}
	value, by, err := r.open(key, sealed)
	if err == nil && by > 0 {
		_ = r.client.Eval(ctx, resealScript, []string{r.hash}, key, sealed, r.seal(key, value)).Err() // or the next time
	}
	return value, err
}

// resealScript changes nothing that has changed meanwhile.
const resealScript = `
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
return 1`

// deleteScript takes the key itself and all below it.
const deleteScript = `
for _, key in ipairs(redis.call('HKEYS', KEYS[1])) do
  if key == ARGV[1] or string.sub(key, 1, #ARGV[1] + 1) == ARGV[1] .. '/' then
    redis.call('HDEL', KEYS[1], key)
  end
end
return 1`

// Delete removes key and all that is below it.
func (r *Redis) Delete(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	return asked(r.client.Eval(ctx, deleteScript, []string{r.hash}, key).Err())
}

// Exists reports whether key, or something below it, is there, and that it could
// be asked.
func (r *Redis) Exists(ctx context.Context, key string) bool {
	_, err := r.Stat(ctx, key)
	return err == nil
}

func (r *Redis) keys(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	keys, err := r.client.HKeys(ctx, r.hash).Result()
	if err != nil {
		return nil, asked(err)
	}
	slices.Sort(keys)
	return keys, nil
}

// List is what is directly below prefix or, recursively, all of it.
func (r *Redis) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	all, err := r.keys(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, key := range all {
		rest, ok := strings.CutPrefix(key, prefix+"/")
		if !ok {
			continue
		}
		parts := strings.Split(rest, "/")
		if !recursive {
			parts = parts[:1]
		}
		for i := range parts { // folders too
			found[path.Join(prefix, path.Join(parts[:i+1]...))] = true
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s in Redis: %w", prefix, fs.ErrNotExist)
	}
	list := make([]string, 0, len(found))
	for key := range found {
		list = append(list, key)
	}
	slices.Sort(list)
	return list, nil
}

// Stat tells of key; when it was written is not known.
func (r *Redis) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	value, err := r.Load(ctx, key)
	if err == nil {
		return certmagic.KeyInfo{Key: key, Size: int64(len(value)), IsTerminal: true}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return certmagic.KeyInfo{}, err
	}
	if _, err := r.List(ctx, key, false); err != nil {
		return certmagic.KeyInfo{}, err
	}
	return certmagic.KeyInfo{Key: key}, nil
}

func (r *Redis) lock(name string) string {
	return r.hash + ":lock:" + certmagic.StorageKeys.Safe(name)
}

// Lock waits until nobody else holds name, or until ctx ends. The lock is renewed
// while it is held, so one of a process that is gone is free after 30 seconds.
func (r *Redis) Lock(ctx context.Context, name string) error {
	token := rand.Text()
	for {
		call, cancel := context.WithTimeout(ctx, answerWithin)
		got, err := r.client.SetNX(call, r.lock(name), token, r.lease).Result()
		cancel()
		if err != nil {
			if end, ok := ctx.Deadline(); ok && !time.Now().Before(end) {
				return context.DeadlineExceeded // and ctx is about to say so
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return asked(err)
		}
		if got {
			break
		}
		if err := pause(ctx, lockPoll); err != nil {
			return err
		}
	}
	renewing, end := context.WithCancel(context.Background())
	l := &lease{token: token, end: end}
	l.ended.Go(func() { r.renew(renewing, name, token) })
	r.locks.put(name, l)
	return nil
}

const (
	renewScript = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0`
	freeScript  = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`
)

// renew keeps the lock until it is given back, or somebody else has it. While
// Redis cannot be asked it goes on trying: the lock may still be ours.
func (r *Redis) renew(ctx context.Context, name, token string) {
	for pause(ctx, r.lease/3) == nil {
		call, cancel := context.WithTimeout(ctx, min(answerWithin, r.lease/3))
		renewed, err := r.client.Eval(call, renewScript, []string{r.lock(name)}, token, r.lease.Milliseconds()).Int()
		cancel()
		if err == nil && renewed == 0 {
			return
		}
	}
}

// Unlock gives name back if it is still ours. It does so even if ctx has ended:
// the others should not have to wait for the lock to run out.
func (r *Redis) Unlock(ctx context.Context, name string) error {
	l, ok := r.locks.take(name)
	if !ok {
		return fmt.Errorf("lock %s is not held", name)
	}
	l.end()
	l.ended.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
	defer cancel()
	freed, err := r.client.Eval(ctx, freeScript, []string{r.lock(name)}, l.token).Int()
	if err != nil {
		return asked(err)
	}
	if freed == 0 {
		return fmt.Errorf("lock %s was lost: it was not renewed for %v", name, r.lease)
	}
	return nil
}

// asked says of an error that it is Redis'.
func asked(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("Redis cannot be asked: %w", err)
}
