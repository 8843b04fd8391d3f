package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/regward/regward/configs"
	"github.com/regward/regward/ratelimit"
)

// The bounds of what Redis may cost one instance; in a cluster, for each node.
const (
	redisConns   = 32      // 20,000 decisions a second at a millisecond each
	redisBuffer  = 8 << 10 // bytes, each way, of each connection
	redisDial    = time.Second
	redisIdle    = 5 * time.Minute // below what firewalls forget a connection after
	redisDialing = 4               // connections being made at once
	redisReady   = 4               // connections kept for those who cannot wait for a handshake
	redisAnswer  = time.Second     // for an answer that no request waits for
)

// newRedis is the client for what several instances share; nil if the
// configuration has no Redis. It asks nothing yet: an instance starts while
// Redis is down.
//
// Nothing is asked twice by itself, for a call that timed out may have been
// done: limits would be spent twice. A call ends with its context, which is
// where redis.timeout holds: for a second at least waits who has no request
// behind, such as the probe that makes connections and finds the nodes of a
// cluster. Connecting goes on behind the back of a caller who gave up, so that a
// slow handshake is paid once.
//
// The client's log is its own and of the whole process: it is turned off, as
// every error is returned too.
func newRedis(r *configs.Redis) (redis.UniversalClient, error) {
	if !r.Shared() {
		return nil, nil
	}
	logging.Disable()
	timeout := time.Duration(r.Timeout)
	o := &redis.UniversalOptions{
		MasterName:       r.MasterName,
		IsClusterMode:    r.Mode == configs.RedisCluster,
		Username:         r.Username,
		Password:         r.Password.Reveal(),
		SentinelPassword: r.SentinelPassword.Reveal(),

		MaxRetries:            -1,
		DialTimeout:           max(timeout, redisDial),
		DialerRetries:         1,
		ReadTimeout:           max(timeout, redisAnswer),
		WriteTimeout:          max(timeout, redisAnswer),
		PoolTimeout:           max(timeout, redisAnswer),
		ContextTimeoutEnabled: true,

		PoolSize:           redisConns,
		MaxActiveConns:     redisConns,
		MinIdleConns:       redisReady,
		MaxConcurrentDials: redisDialing,
		PipelinePoolSize:   -1,
		ReadBufferSize:     redisBuffer,
		WriteBufferSize:    redisBuffer,
		ConnMaxIdleTime:    redisIdle,

		DisableIdentity:          true, // a user of Redis may be allowed no CLIENT command
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	for _, addr := range r.Addresses {
		o.Addrs = append(o.Addrs, strings.TrimPrefix(addr, "unix:"))
	}
	if r.TLS {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		if len(r.CA) > 0 {
			o.TLSConfig.RootCAs = x509.NewCertPool()
			if !o.TLSConfig.RootCAs.AppendCertsFromPEM(r.CA) {
				return nil, errors.New("redis.ca_file holds no certificate in PEM")
			}
		}
	}
	dial := redis.NewDialer(&redis.Options{DialTimeout: o.DialTimeout, TLSConfig: o.TLSConfig})
	o.Dialer = ratelimit.BoundedReplies(dial)
	return redis.NewUniversalClient(o), nil
}
