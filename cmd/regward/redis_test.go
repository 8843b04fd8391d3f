package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/regward/regward/configs"
	"github.com/regward/regward/internal/redistest"
)

// redisOf is the redis section of a configuration.
func redisOf(t *testing.T, dir, yaml string) *configs.Redis {
	t.Helper()
	text := "hostname: registry.example.com\ntls: {mode: internal}\nupstream: http://127.0.0.1:5000\ntoken: {key_file: key.pem}\nredis: " + yaml + "\n"
	write(t, filepath.Join(dir, "key.pem"), "a key")
	c, err := configs.Parse("regward.yaml", []byte(text), configs.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return &c.Redis
}

// redisCA makes a CA and a certificate of it for 127.0.0.1, in files.
func redisCA(t *testing.T, dir string) {
	t.Helper()
	make := func(cn string, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn}, NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: parent == nil,
		}
		if parent == nil {
			parent, by = tmpl, key
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, cn+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
		write(t, filepath.Join(dir, cn+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert, key
	}
	ca, key := make("ca", nil, nil)
	make("redis", ca, key)
	make("other", nil, nil)
}

// startTLSRedis speaks TLS alone, with the files of redisCA in dir.
func startTLSRedis(t *testing.T, dir string) *redistest.Server {
	t.Helper()
	return redistest.Start(t, "--port", "0", "--tls-port", "PORT", "--tls-auth-clients", "no",
		"--tls-cert-file", dir+"/redis.pem", "--tls-key-file", dir+"/redis.key", "--tls-ca-cert-file", dir+"/ca.pem")
}

// startSentinel watches a master by the name mymaster.
func startSentinel(t *testing.T, master *redistest.Server) *redistest.Server {
	t.Helper()
	host, port, _ := net.SplitHostPort(master.Addr)
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	write(t, file, fmt.Sprintf("sentinel monitor mymaster %s %s 1\n", host, port))
	return redistest.StartSentinel(t, file)
}

// startCluster is one node that has all slots.
func startCluster(t *testing.T) *redistest.Server {
	t.Helper()
	s, client := slotsOf(t, 16383)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		info, err := client.Do(t.Context(), "CLUSTER", "INFO").Text()
		if err == nil && strings.Contains(info, "cluster_state:ok") {
			return s
		}
		if time.Now().After(end) {
			t.Fatalf("no cluster: %v %s", err, info)
		}
	}
}

// halfCluster is one node that has half of the slots: those of most keys are
// nobody's.
func halfCluster(t *testing.T) *redistest.Server {
	t.Helper()
	s, _ := slotsOf(t, 8000)
	return s
}

// slotsOf is a node of a cluster that has the slots up to last.
func slotsOf(t *testing.T, last int) (*redistest.Server, redis.UniversalClient) {
	t.Helper()
	s := redistest.Start(t, "--cluster-enabled", "yes")
	client, err := newRedis(redisOf(t, t.TempDir(), fmt.Sprintf("{addresses: %q, timeout: 5s}", s.Addr)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if err := client.Do(t.Context(), "CLUSTER", "ADDSLOTSRANGE", 0, last).Err(); err != nil {
		t.Fatal(err)
	}
	return s, client
}

// stranger answers whatever is said with the same.
func stranger(t *testing.T, answer string) (addr string) {
	t.Helper()
	return redistest.Fake(t, func(c net.Conn) {
		buf := make([]byte, 4096)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			if _, err := c.Write([]byte(answer)); err != nil {
				return
			}
		}
	})
}

// Each mode reaches its Redis and can do what limits need; what keeps it from
// that is told with the key that helps.
func TestOnlineAsksRedis(t *testing.T) {
	dir := t.TempDir()
	redisCA(t, dir)
	plain, locked := redistest.Start(t), redistest.Start(t, "--requirepass", "letmein", "--user", "reader", "on", ">letmein", "~*", "+ping", "+hello", "+auth")
	socket := filepath.Join(dir, "r.sock")
	redistest.Start(t, "--unixsocket", socket)
	secure, sentinel, cluster := startTLSRedis(t, dir), startSentinel(t, plain), startCluster(t)
	replica := redistest.Start(t, "--replicaof", strings.Replace(plain.Addr, ":", " ", 1))
	gone := redistest.Start(t)
	gone.Kill()
	names := strings.NewReplacer("PLAIN", plain.Addr, "LOCKED", locked.Addr, "SOCKET", "unix:"+socket, "TLS", secure.Addr,
		"SENTINEL", sentinel.Addr, "CLUSTER", cluster.Addr, "REPLICA", replica.Addr, "GONE", gone.Addr,
		"LONELY", redistest.Start(t, "--cluster-enabled", "yes").Addr, "HALF", halfCluster(t).Addr, "MOVES", stranger(t, "-MOVED 1 127.0.0.1:1\r\n"))
	for _, tt := range []struct{ redis, path, says, fix string }{
		{"{addresses: PLAIN}", "", "", ""},
		{"{addresses: SOCKET}", "", "", ""},
		{"{addresses: LOCKED, password: letmein}", "", "", ""},
		{"{addresses: LOCKED, username: default, password: letmein}", "", "", ""},
		{"{addresses: TLS, tls: true, ca_file: ca.pem}", "", "", ""},
		{"{addresses: SENTINEL, mode: sentinel, master_name: mymaster}", "", "", ""},
		{"{addresses: CLUSTER, mode: cluster}", "", "", ""},

		{"{addresses: GONE}", "redis", "connection refused", ""},
		{"{addresses: LOCKED}", "redis.password", "NOAUTH", "set redis.password"},
		{"{addresses: LOCKED, password: wrong-one}", "redis.password", "WRONGPASS", "check redis.password"},
		{"{addresses: LOCKED, username: reader, password: letmein}", "redis.username", "NOPERM", "~regward:* &regward:*"},
		{"{addresses: TLS, tls: true, ca_file: other.pem}", "redis.ca_file", "certificate signed by unknown authority", "name the CA"},
		{"{addresses: TLS}", "redis.tls", "EOF", "write tls: true"},
		{"{addresses: PLAIN, tls: true, ca_file: ca.pem}", "redis.tls", "no answer in 3s", "leave tls out"},
		{"{addresses: SENTINEL}", "redis.mode", "unknown command", "mode: sentinel"},
		{"{addresses: SENTINEL, mode: sentinel, master_name: othermaster}", "redis.master_name", "all sentinels", "sentinel.conf"},
		{"{addresses: PLAIN, mode: cluster}", "redis.mode", "cluster support disabled", "write mode: single"},
		{"{addresses: REPLICA}", "redis.addresses", "READONLY", "this is a replica"},
		{"{addresses: LONELY}", "redis.mode", "CLUSTERDOWN", "a node of a cluster: write mode: cluster"},
		{"{addresses: MOVES}", "redis.mode", "MOVED", "a node of a cluster: write mode: cluster"},
		{"{addresses: LONELY, mode: cluster}", "redis.addresses", "cluster has no nodes", "serves no slot"},
		{"{addresses: HALF, mode: cluster}", "redis.addresses", "CLUSTERDOWN", "some of the 16384 slots"},
	} {
		r := redisOf(t, dir, names.Replace(tt.redis))
		var got configs.Problems
		checkRedis(t.Context(), r, func(s configs.Severity, path, msg, fix string) {
			if s == configs.Error { // a busy machine may be told that it is slow
				got = append(got, configs.Problem{Severity: s, File: "f", Path: path, Msg: msg, Fix: fix})
			}
		})
		switch {
		case tt.path == "" && len(got) == 0:
		case tt.path == "" || len(got) != 1:
			t.Errorf("%s: %v", tt.redis, got.Error())
		case got[0].Path != tt.path || !strings.Contains(got[0].Msg, tt.says) || !strings.Contains(got[0].Fix, names.Replace(tt.fix)):
			t.Errorf("%s: got %v\nwant %s: …%s… fix: …%s…", tt.redis, got[0], tt.path, tt.says, tt.fix)
		}
		if text := got.Error(); strings.Contains(text, "letmein") || strings.Contains(text, "wrong-one") {
			t.Errorf("%s: a password is told: %s", tt.redis, text)
		}
	}
}

// A Redis that is slow is told to be slow, with the figure, rather than gone.
func TestOnlineTimesRedis(t *testing.T) {
	s := redistest.Start(t)
	r := redisOf(t, t.TempDir(), fmt.Sprintf("{addresses: %q, timeout: 5ms}", slowly(t, s.Addr, 20*time.Millisecond)))
	var got configs.Problems
	checkRedis(t.Context(), r, func(s configs.Severity, path, msg, fix string) {
		got = append(got, configs.Problem{Severity: s, Path: path, Msg: msg, Fix: fix})
	})
	if len(got) != 1 || got[0].Severity != configs.Warning || got[0].Path != "redis.timeout" || !strings.Contains(got[0].Fix, "write timeout: ") {
		t.Errorf("got %v", got.Error())
	}
}

// slowly is an address that passes everything on after a while.
func slowly(t *testing.T, to string, after time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	pass := func(from, to net.Conn) {
		defer to.Close()
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			time.Sleep(after)
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				_ = client.Close()
				return
			}
			go pass(client, server)
			go pass(server, client)
		}
	}()
	return l.Addr().String()
}

// A call ends in time whatever Redis does: not there, paused, or a stranger.
func TestRedisCallsAreBounded(t *testing.T) {
	paused := redistest.Start(t)
	gone := redistest.Start(t)
	gone.Kill()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, addr := range map[string]string{"paused": paused.Addr, "gone": gone.Addr, "silent": silent.Addr().String()} {
		client, err := newRedis(redisOf(t, t.TempDir(), fmt.Sprintf("{addresses: %q, password: letmein}", addr)))
		if err != nil {
			t.Fatal(err)
		}
		if name == "paused" {
			paused.Pause()
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err = client.Ping(ctx).Err()
		cancel()
		if took := time.Since(began); err == nil || took > 2*time.Second {
			t.Errorf("%s: %v after %v", name, err, took)
		}
		if err != nil && strings.Contains(err.Error(), "letmein") {
			t.Errorf("%s: the password is told: %v", name, err)
		}
		_ = client.Close()
	}
	paused.Resume()
}

func TestNoRedis(t *testing.T) {
	if client, err := newRedis(redisOf(t, t.TempDir(), "{}")); client != nil || err != nil {
		t.Errorf("got %v, %v", client, err)
	}
	bad := &configs.Redis{Addresses: []string{"redis:6379"}, TLS: true, CA: []byte("no PEM")}
	if client, err := newRedis(bad); client != nil || err == nil {
		t.Errorf("a CA that is none: %v, %v", client, err)
	}
}
