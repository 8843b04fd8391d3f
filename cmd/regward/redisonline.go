package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/regward/regward/configs"
)

const (
	redisTries   = 10              // calls that are timed
	redisPatient = 3 * time.Second // for an answer, whatever redis.timeout says
)

// checkRedis asks Redis what the file cannot say: whether it is there, takes
// the login, lets it write and run scripts, and answers well within
// redis.timeout.
func checkRedis(ctx context.Context, r *configs.Redis, say reporter) {
	patient := *r // it is told how slow Redis is, rather than that it is slow
	patient.Timeout = configs.Duration(max(time.Duration(r.Timeout), redisPatient))
	client, err := newRedis(&patient)
	if err != nil || client == nil {
		if err != nil {
			say(configs.Error, "redis", err.Error(), "")
		}
		return
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, onlineFor)
	defer cancel()
	where := strings.Join(r.Addresses, ", ")
	if err := client.Ping(ctx).Err(); err != nil {
		path, fix := redisFix(err, r)
		why := err.Error()
		if late(err) {
			why = fmt.Sprintf("no answer in %v", time.Duration(patient.Timeout))
		}
		say(configs.Error, path, fmt.Sprintf("Redis at %s cannot be asked: %s", where, why), fix)
		return
	}
	key := r.KeyPrefix + ":{validate}"
	const script = `return redis.call("SET", KEYS[1], redis.call("TIME")[1], "PX", ARGV[1])`
	slowest := time.Duration(0)
	for range redisTries {
		began := time.Now()
		err := client.Eval(ctx, script, []string{key}, 1000).Err()
		if err == nil {
			err = client.Publish(ctx, key, "").Err()
		}
		if err != nil {
			path, fix := redisFix(err, r)
			say(configs.Error, path, fmt.Sprintf("Redis at %s answers, and does not do what limits need: %v", where, err), fix)
			return
		}
		slowest = max(slowest, time.Since(began)/2)
	}
	if limit := time.Duration(r.Timeout); slowest > limit/2 {
		say(configs.Warning, "redis.timeout", fmt.Sprintf("Redis at %s took %v for one of %d calls, and a call that takes longer than %v counts as none", where, slowest.Round(time.Millisecond), redisTries, limit),
			fmt.Sprintf("write timeout: %v, or bring Redis nearer", max(limit, (4*slowest).Round(10*time.Millisecond))))
	}
}

// redisFix says which key helps, where one does.
func redisFix(err error, r *configs.Redis) (path, fix string) {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	text := err.Error()
	says := func(words string) bool { return strings.Contains(text, words) } // sentinels are quoted within
	password := "redis.password"
	if says("all sentinels") {
		password = "redis.sentinel_password"
	}
	for _, known := range []struct {
		when      bool
		path, fix string
	}{
		{errors.As(err, &unknown), "redis.ca_file", "name the CA that its certificate comes from in redis.ca_file"},
		{errors.As(err, &name), "redis.addresses", "write a name that the certificate has"},
		{says("does not look like a TLS handshake"), "redis.tls", "leave tls out, or name the port that speaks it"},
		{says("NOAUTH") || says("Authentication required"), password, "set " + password},
		{says("WRONGPASS") || says("invalid password"), password, "check " + password + ", and redis.username where there is one"},
		{says("without any password configured"), password, "leave " + password + " out, or give Redis one"},
		{says("NOPERM"), "redis.username", fmt.Sprintf("allow that user scripts, and its keys and channels: ~%s:* &%s:* +@all -@dangerous", r.KeyPrefix, r.KeyPrefix)},
		{says("READONLY"), "redis.addresses", "this is a replica: name the master, or its sentinels with mode: sentinel"},
		{r.Mode == configs.RedisCluster && says("CLUSTERDOWN"), "redis.addresses", "some of the 16384 slots are served by no node that is up, and the cluster answers nothing until all are: " +
			"see which with `redis-cli --cluster check " + r.Addresses[0] + "`, and start the node that is down or mend it with --cluster fix"},
		{says("cluster has no nodes"), "redis.addresses", "that node has been joined to no cluster and serves no slot: join it with redis-cli --cluster create or add-node, or name another one"},
		{says("MOVED") || says("CLUSTERDOWN"), "redis.mode", "this is a node of a cluster: write mode: cluster"},
		{says("cluster support disabled"), "redis.mode", "write mode: single"},
		{r.Mode == configs.RedisSingle && says("unknown command"), "redis.mode", "if this is a sentinel, write mode: sentinel and master_name"},
		{r.Mode == configs.RedisSentinel && errors.Is(err, redis.Nil), "redis.master_name", "write the name that sentinel.conf has"},
		{late(err) && r.TLS, "redis.tls", "if that port speaks no TLS, leave tls out"},
		{strings.HasSuffix(text, "EOF") && !r.TLS, "redis.tls", "if that port speaks TLS, write tls: true"},
	} {
		if known.when {
			return known.path, known.fix
		}
	}
	return "redis", ""
}

// late reports whether nothing was answered in time.
func late(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}
