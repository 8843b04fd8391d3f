package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/internal/redistest"
)

// twins are two instances that share a Redis and a token key.
func twins(t *testing.T, redis *redistest.Server, more string) (one, two *running) {
	t.Helper()
	key := filepath.Join(t.TempDir(), "token.pem")
	if _, err := auth.LoadTokens(key, true); err != nil {
		t.Fatal(err)
	}
	config := limited() + "redis: {addresses: \"" + redis.Addr + "\", timeout: 5s" + more + "}\ntoken: {key_file: " + key + "}\n"
	return begin(t, config, nil, nil), begin(t, config, nil, nil)
}

// soon waits until a condition holds that other goroutines bring about.
func soon(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// Two instances count as one, and what is done on one holds on both.
func TestTwoInstancesCountAsOne(t *testing.T) {
	one, two := twins(t, redistest.Start(t), "")
	one.pullOf("ann", 200)
	two.pullOf("ann", 200)
	one.pullOf("ann", 429)
	two.pullOf("ann", 429)
	out := two.says(t, "limits show --user ann", exitDone, "user:ann", "2 of 2 used")
	if strings.Contains(out, "by this instance alone") {
		t.Errorf("limits show says that they count apart:\n%s", out)
	}
	one.says(t, "limits reset people user:ann", exitDone)
	two.pullOf("ann", 200)

	one.says(t, "limits override people --rate 100/s --for 2h", exitDone)
	soon(t, "the override reaches the other instance", func() bool { return len(two.handler.Overrides()) == 1 })
	two.says(t, "limits show", exitDone, `override of limit "people": 100/s`)
	two.says(t, "limits override people --end", exitDone)
	soon(t, "its end reaches the first one", func() bool { return len(one.handler.Overrides()) == 0 })

	one.says(t, "revoke --user ann", exitDone)
	soon(t, "the revocation reaches the other instance", func() bool { return two.cache.Revoked() == 1 })

	two.edit("groups: {coolteam: [ann]}", "groups: {coolteam: [bob]}")
	two.log.await(t, "configuration loaded", 1)
	one.says(t, "reload", exitDone, "the other instances are asked to load theirs")

	var st status
	soon(t, "both instances are told", func() bool {
		_, text, _ := one.command("status", "--output", "json")
		st = status{}
		return json.Unmarshal([]byte(text), &st) == nil && len(st.Instances) == 2 && st.Instances[0].Config != st.Instances[1].Config
	})
	one.says(t, "status", exitDone, "2 instances, with 2 different configurations", "redis: ok")
}

// A reload that one instance is asked for is one of the others' too: they say
// who asked.
func TestAReloadReachesTheOthers(t *testing.T) {
	one, two := twins(t, redistest.Start(t), "")
	// Watching would find the change by itself.
	two.watcher.close()
	two.edit("groups: {coolteam: [ann]}", "groups: {coolteam: [bob]}")
	one.says(t, "reload", exitDone)
	two.log.await(t, `"trigger":"reload asked by regward@`+hostname()+`","by":"regward@`+hostname()+`"`, 1)
	for asked := time.Now(); ; { // and say so before they would do it of themselves, every 5 s
		_, text, _ := one.command("status", "--output", "json")
		if strings.Contains(text, two.live.Load().cfg.Version) {
			break
		}
		if time.Since(asked) > 4500*time.Millisecond {
			t.Fatalf("status of the one still tells what the other had before the reload:\n%s", text)
		}
	}
}

// Redis dies: requests go on, /readyz says so with 200, status since when, and
// what is revoked meanwhile holds here and is said not to hold elsewhere yet.
func TestRedisDiesUnderTwoInstances(t *testing.T) {
	redis := redistest.Start(t)
	one, two := twins(t, redis, "")
	one.pullOf("ann", 200)
	redis.Kill()
	// At once, and not only when the next sign of life fails.
	if out := one.says(t, "status", exitDone, "redis: ", "not shared since ", "1 instance; what others there are Redis cannot be asked"); strings.Contains(out, "redis: ok") {
		t.Errorf("status says that all is well:\n%s", out)
	}
	one.pullOf("ann", 200) // on_error: local
	one.says(t, "revoke --user ann", exitFailed, "is put out", "holds here, but the other instances could not be told yet: ", "; they are told when Redis is back")
	if one.cache.Revoked() != 1 {
		t.Error("the revocation does not hold where it was asked for")
	}
	one.says(t, "healthcheck", exitDone, "ready\n", "redis: ", "not shared, since ")
	one.says(t, "status", exitDone, "redis: ", "revocations not shared since ", " made here that no other instance knows of yet")
	one.says(t, "limits override people --rate 9/s --for 1h", exitFailed, "until", "could not be told yet")
	one.says(t, "limits show", exitDone, "Redis cannot be asked what is used up; this is what this instance has counted meanwhile")
	one.says(t, "limits reset people user:ann", exitFailed, "regward: Redis cannot be asked, so nothing was given back: ", "`regward limits override`")
	if out := one.says(t, "revoke --everybody", exitFailed, "everybody is put out"); strings.Contains(out, `""`) {
		t.Error(out)
	}
	one.says(t, "reload", exitDone, "could not be asked to load theirs: Redis is away")

	redis.Start()
	soon(t, "both revocations reach the other instance", func() bool { return two.cache.Revoked() == 2 })
	soon(t, "the override does", func() bool { return len(two.handler.Overrides()) == 1 })
	soon(t, "/readyz is well again", func() bool { _, out, _ := one.command("healthcheck"); return out == "ready\n" })
	one.says(t, "status", exitDone, "redis: ok", "shared again: ")
}

// An instance starts while Redis is down.
func TestServeStartsWhileRedisIsDown(t *testing.T) {
	redis := redistest.Start(t)
	redis.Kill()
	one, _ := twins(t, redis, ", on_error: deny")
	if status := one.manifest("ann"); status != 503 {
		t.Errorf("with on_error: deny a pull is answered %d, want 503", status)
	}
	if _, err := os.Stat(filepath.Join(one.dir, "state", lastGood)); err != nil {
		t.Error(err)
	}
}
