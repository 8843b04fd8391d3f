package configs

import (
	"fmt"
	"net"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Redis is what several instances share. Without Addresses there is none, and
// each keeps its limits for itself.
type Redis struct {
	Addresses        []string `yaml:"addresses"` // host:port, or unix:/path; of the sentinels with RedisSentinel
	Mode             string   `yaml:"mode"`      // RedisSingle, RedisCluster or RedisSentinel
	MasterName       string   `yaml:"master_name"`
	Username         string   `yaml:"username"`
	Password         Secret   `yaml:"password"`
	SentinelPassword Secret   `yaml:"sentinel_password"`
	TLS              bool     `yaml:"tls"`
	CAFile           string   `yaml:"ca_file" is:"file"`
	KeyPrefix        string   `yaml:"key_prefix"` // of every key and channel, without the colon behind it
	Timeout          Duration `yaml:"timeout"`    // of each call
	OnError          string   `yaml:"on_error"`   // RedisLocal, RedisAllow or RedisDeny

	CA []byte `yaml:"-"` // content of CAFile, PEM
}

// The values of redis.mode.
const (
	RedisSingle   = "single"
	RedisCluster  = "cluster"
	RedisSentinel = "sentinel"
)

// The values of redis.on_error: what holds while Redis cannot be asked.
const (
	RedisLocal = "local" // each instance counts for itself
	RedisAllow = "allow" // no limit is asked
	RedisDeny  = "deny"  // what a limit would count is refused
)

// Shared reports whether there is a Redis.
func (r *Redis) Shared() bool { return len(r.Addresses) > 0 }

// The bounds of redis.timeout: docker gives a login up after 15 s, and a
// request may ask Redis twice.
const (
	minRedisTimeout = 5 * time.Millisecond
	maxRedisTimeout = 5 * time.Second
)

var redisPrefix = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$`)

// checkRedis looks at redis as a whole: where it is, how it is reached, and
// what several instances need besides.
func (k *checker) checkRedis() {
	r := &k.Redis
	if !k.given("redis") || len(k.problemsAt("redis")) > 0 && len(r.Addresses) == 0 {
		return
	}
	if len(r.Addresses) == 0 {
		if k.anyRedis() && !k.given("redis.addresses") {
			k.bad("redis.addresses", "missing: where is it?", "write addresses: redis:6379")
		}
		return
	}
	for i, addr := range r.Addresses {
		at := k.entry("redis.addresses", i)
		host, err := parseRedisAddress(addr, r.Mode)
		if err != nil {
			msg, fix := explain(err)
			k.bad(at, msg, fix)
			continue
		}
		r.Addresses[i] = host
	}
	k.checkRedisMode(r)
	k.checkRedisLogin(r)
	k.word("redis.on_error", r.OnError, RedisLocal, RedisAllow, RedisDeny)
	if !redisPrefix.MatchString(r.KeyPrefix) && !k.refused("redis.key_prefix") {
		k.bad("redis.key_prefix", fmt.Sprintf("%q cannot begin a key", clip(r.KeyPrefix)), "use letters, digits and . _ - : (64 at most)")
	}
	if t := time.Duration(r.Timeout); (t < minRedisTimeout || t > maxRedisTimeout) && !k.refused("redis.timeout") {
		k.bad("redis.timeout", fmt.Sprintf("%v is out of bounds: every request that a limit counts may wait so long", r.Timeout), "write 5ms to 5s")
	}
	if k.Token.Create && !k.absentBelow("token") {
		k.bad("redis", "token.key_file is missing: each instance would sign with a key of its own, which the others do not take",
			"write token: {key_file: /run/secrets/regward-token.pem}, the same file for all of them")
	}
}

// anyRedis reports whether redis has anything in it.
func (k *checker) anyRedis() bool {
	for path := range k.src.values {
		if strings.HasPrefix(path, "redis.") {
			return true
		}
	}
	return false
}

// parseRedisAddress gives host:port or unix:/path.
func parseRedisAddress(addr, mode string) (string, error) {
	port := "6379"
	if mode == RedisSentinel {
		port = "26379"
	}
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		switch {
		case mode == RedisCluster || mode == RedisSentinel:
			return "", fault{fmt.Sprintf("%q: mode %s needs addresses that nodes know each other by", clip(addr), mode), "write redis:" + port}
		case !filepath.IsAbs(path) || len(path) > 100:
			return "", fault{fmt.Sprintf("%q: a socket wants an absolute path of at most 100 bytes", clip(addr)), "write unix:/run/redis/redis.sock"}
		}
		return addr, nil
	}
	if scheme, rest, ok := strings.Cut(addr, "://"); ok {
		if i := strings.LastIndexByte(rest, '@'); i >= 0 { // a login: never quoted
			return "", fault{"this is a URL with a login in it", "write the host and its port alone, and username and password beside addresses"}
		}
		fix := fmt.Sprintf("write %q", withPort(beforeSlash(rest), port))
		if scheme == "rediss" {
			fix += " and tls: true"
		}
		return "", fault{fmt.Sprintf("%q is a URL", clip(addr)), fix}
	}
	if strings.Contains(addr, "@") {
		return "", fault{"there is a login in it", "write the host and its port alone, and username and password beside addresses"}
	}
	// The names that compose gives its services may have an underscore.
	host, err := parseHostname(strings.ReplaceAll(addr, "_", "x"))
	if err != nil {
		return "", fault{fmt.Sprintf("%q is neither a host name nor an IP address with a port", clip(addr)), "write redis:" + port}
	}
	if strings.Contains(addr, "_") {
		host = strings.ToLower(addr)
	}
	if _, _, err := net.SplitHostPort(host); err != nil {
		return "", fault{fmt.Sprintf("%q has no port", clip(addr)), fmt.Sprintf("write %q", net.JoinHostPort(host, port))}
	}
	return host, nil
}

// withPort puts a port behind a host that has none.
func withPort(host, port string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		if _, err := strconv.Atoi(host[i+1:]); err == nil {
			return host
		}
	}
	return host + ":" + port
}

// checkRedisMode: what each of the modes needs, and what it has no use for.
func (k *checker) checkRedisMode(r *Redis) {
	k.word("redis.mode", r.Mode, RedisSingle, RedisCluster, RedisSentinel)
	name := k.given("redis.master_name")
	switch {
	case k.refused("redis.mode") || k.absentBelow("redis.addresses"):
	case r.Mode == RedisSingle && len(r.Addresses) > 1:
		fix := "write mode: cluster, or mode: sentinel with master_name"
		if name {
			fix = "write mode: sentinel"
		}
		k.bad("redis.addresses", fmt.Sprintf("single, but %d addresses: which of them?", len(r.Addresses)), fix)
	case r.Mode == RedisSentinel && !name:
		k.bad("redis.mode", "sentinel, but master_name is missing: sentinels watch several masters by name", "write master_name: mymaster, as sentinel.conf has it")
	case r.Mode != RedisSentinel && name:
		k.bad("redis.master_name", fmt.Sprintf("mode is %s: only sentinels know masters by name", r.Mode), "write mode: sentinel, or leave it out")
	}
	if name && r.MasterName == "" && !k.refused("redis.master_name") {
		k.bad("redis.master_name", "is empty", "write the name that sentinel.conf has: mymaster")
	}
	if r.Mode != RedisSentinel && k.given("redis.sentinel_password") && !k.refused("redis.mode") {
		k.bad("redis.sentinel_password", fmt.Sprintf("mode is %s: there are no sentinels", r.Mode), "leave it out")
	}
}

// checkRedisLogin: a user has a password, and TLS a reason.
func (k *checker) checkRedisLogin(r *Redis) {
	if k.given("redis.username") && !k.given("redis.password") {
		k.bad("redis.username", "password is missing: a user of Redis has one", "set password too")
	}
	for path, s := range map[string]Secret{"redis.password": r.Password, "redis.sentinel_password": r.SentinelPassword} {
		if k.given(path) && s.IsZero() && !k.refused(path) {
			k.bad(path, "is empty", "leave it out where none is asked for")
		}
	}
	if r.CAFile != "" && !r.TLS && !k.refused("redis.tls") {
		k.bad("redis.ca_file", "is about TLS, and tls is not true", "write tls: true, or leave it out")
	}
	if r.TLS && strings.HasPrefix(r.Addresses[0], "unix:") {
		k.bad("redis.tls", "true, but a socket of this machine has no certificate", "leave it out")
	}
}

// same reports whether both lead to the same Redis in the same way.
func (r *Redis) same(o *Redis) bool {
	a, b := *r, *o
	if !a.Shared() && !b.Shared() {
		return true
	}
	secrets := a.Password.Reveal() == b.Password.Reveal() && a.SentinelPassword.Reveal() == b.SentinelPassword.Reveal()
	a.Password, b.Password, a.SentinelPassword, b.SentinelPassword = Secret{}, Secret{}, Secret{}, Secret{}
	return secrets && reflect.DeepEqual(a, b)
}
