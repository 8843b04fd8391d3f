package auth_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
)

const aHash = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"

func TestSecretsHaveAForm(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		secret, hash := auth.NewRobotSecret()
		if len(secret) != 53 || !strings.HasPrefix(secret, "rgw_") || seen[secret] {
			t.Fatalf("%d letters, seen before: %v", len(secret), seen[secret])
		}
		seen[secret] = true
		if len(hash.String()) != 64 || !strings.HasPrefix(hash.String(), hash.ID()) || len(hash.ID()) != 8 {
			t.Fatalf("hash %s, ID %s", hash, hash.ID())
		}
	}
}

func TestParseRobotsNamesEveryMistake(t *testing.T) {
	secret, _ := auth.NewRobotSecret()
	entry := func(more string) string {
		return "robots:\n  - name: ci\n    repositories: [\"a/**\"]\n    allow: [pull]\n    hashes: [{sha256: " + aHash + "}]\n" + more
	}
	for _, tt := range []struct{ text, want string }{
		{"", ""},
		{"# nothing yet\n", ""},
		{"robots:\n", ""},
		{"robots: []\n", ""},
		{entry(""), ""},
		{"robots: [\n", "t:1: did not find expected node content; is it still being written?"},
		{"robots:\n- name: ci\n   allow: x\n", "t:3: mapping values are not allowed in this context; is it still being written?"},
		{"- name: ci\n", "t:1:1: the file wants keys and values: robots; write robots: above the first entry"},
		{"robots: 7\n", "t:1:9: robots wants a list; write - name: ci below it"},
		{"tokens: []\n", `t:1:1: unknown key "tokens"; write one of robots`},
		{"robots: []\n---\nrobots: []\n", "t:1: more than one document; is it still being written?"},
		{entry("  - {}\n"), "t:6:5: a robot without name; write name: ci; it logs in as robot-ci\n" +
			"t:6:5: a robot without repositories; write repositories: [\"team/**\"]\n" +
			"t:6:5: a robot without allow; write allow: [pull]\n" +
			"t:6:5: a robot without hashes; regward token create --print writes an entry"},
		{entry("    alow: push\n"), `t:6:5: unknown key "alow"; write one of name, owner, repositories, allow, from, expires, hashes`},
		{entry("    allow: push\n"), "t:6:5: allow is there twice; leave one of the two out"},
		{entry("    expires: soon\n"), `t:6:14: "soon" is no time; write it like 2027-02-20T15:00:00Z, or 2027-02-20`},
		{entry("    expires: 2027-02-20\n"), ""},
		{entry("    from: 10.0.0.1/8\n"), `t:6:11: "10.0.0.1/8": the address is not where its network begins; write 10.0.0.0/8 for the network, 10.0.0.1 for the address`},
		{entry("    from: []\n"), "t:6:11: an empty list; leave the key out, or write something into it"},
		{entry("    from: [everywhere]\n"), `t:6:12: "everywhere" is neither a network nor an address; write one like 10.0.0.0/8`},
		{entry("    owner: [a]\n"), "t:6:12: one word is wanted here"},
		{strings.Replace(entry(""), "name: ci", "name: robot-ci", 1), `t:2:11: "robot-ci": the prefix robot- is put in front when it logs in; write ci`},
		{strings.Replace(entry(""), "name: ci", "name: robot$ci", 1), `t:2:11: no robot can be named "robot$ci"; write small letters, digits, and . _ - behind the first`},
		{strings.Replace(entry(""), "name: ci", "name: "+strings.Repeat("x", 64), 1), `t:2:11: robot "` + strings.Repeat("x", 64) + `": the name is longer than 63 letters; choose a shorter one`},
		{strings.Replace(entry(""), "[pull]", "[pull, read]", 1), `t:4:19: "read" is no action; write pull`},
		{strings.Replace(entry(""), "a/**", "{user}/**", 1), `t:3:20: pattern "{user}/**": a robot is in no group, and what it may is its own anyway; write the repositories themselves`},
		{strings.Replace(entry(""), "\"a/**\"", "a/", 1), `t:3:20: pattern "a/" ends in a slash and can match nothing; write "a/*" for one level, "a/**" for all below`},
		{strings.Replace(entry(""), aHash, aHash[:63], 1), "t:5:23: sha256 is no hash of 64 hex digits; is it cut? regward token create --print writes one"},
		{strings.Replace(entry(""), "sha256: "+aHash, "until: 2026-11-23", 1), "t:5:14: a hash without sha256; regward token create --print writes one"},
		{strings.Replace(entry(""), "}]", "}, {sha256: 0"+aHash[1:]+"}]", 1), "t:5:13: two hashes, and neither ends; write until: behind the older one"},
		{strings.Replace(entry(""), "}]", "}, {sha256: 0"+aHash[1:]+"}, {sha256: 1"+aHash[1:]+"}]", 1), "t:5:13: 3 hashes; one is wanted, or two while the robot is rotated; take the oldest out"},
		{entry(strings.TrimPrefix(entry(""), "robots:\n")), "t:6:11: robot ci is in line 2 already; keep one of the two\n" +
			"t:9:14: the robot in line 2 has the same secret; give each a secret of its own: regward token rotate"},
		{entry("    owner: &o x\n  - name: *o\n"), "t:7:11: an alias; write the value out"},
		{entry("# for docker login: " + secret + "\n"), "t:6: a secret is written here, and known to all who can read this file; take it out, and rotate that robot: the file has hashes only"},
	} {
		_, err := auth.ParseRobots("t", []byte(tt.text))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s\n got %s\nwant %s", tt.text, got, tt.want)
		}
	}
}

func TestRobotFilesAreBounded(t *testing.T) {
	if _, err := auth.ParseRobots("t", make([]byte, auth.MaxTokensFile+1)); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a file that is too long: %v", err)
	}
	var text strings.Builder
	text.WriteString("robots:\n")
	for i := range auth.MaxRobots {
		fmt.Fprintf(&text, "  - {name: r%d, repositories: \"a/**\", allow: pull, hashes: [{sha256: %064x}]}\n", i, i)
	}
	f, err := auth.ParseRobots("t", []byte(text.String()))
	if err != nil || len(f.Robots) != auth.MaxRobots {
		t.Fatalf("as many robots as may be: %v", err)
	}
	_, hash := auth.NewRobotSecret()
	more := auth.Robot{Name: "more", Repositories: f.Robots[0].Repositories, Allow: auth.Everything, Secrets: []auth.RobotSecret{{Hash: hash}}}
	if _, err := auth.SetRobot("t", []byte(text.String()), more); err == nil || !strings.Contains(err.Error(), "10000 robots already") {
		t.Errorf("one more: %v", err)
	}
	text.WriteString("  - {}\n")
	if _, err := auth.ParseRobots("t", []byte(text.String())); err == nil || !strings.Contains(err.Error(), "t:2:3: 10001 robots; 10000 are the most") {
		t.Errorf("one more in the file: %v", err)
	}
	if _, err := auth.ParseRobots("t", []byte("robots:\n"+strings.Repeat("  - {x: 1}\n", 500))); len(err.(auth.LineErrors)) != auth.MaxLineErrors {
		t.Errorf("%d mistakes are told", len(err.(auth.LineErrors)))
	}
}

func ci(t testing.TB) auth.Robot {
	t.Helper()
	p, err := auth.ParsePattern("coolteam/**")
	if err != nil {
		t.Fatal(err)
	}
	_, hash := auth.NewRobotSecret()
	return auth.Robot{
		Name: "ci", Owner: "no: 1", Repositories: []auth.Pattern{p}, Allow: auth.Actions(0).With(auth.Pull).With(auth.Push),
		From: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Expires: robotNow, Secrets: []auth.RobotSecret{{Hash: hash}},
	}
}

func TestEditsKeepWhatOthersWrote(t *testing.T) {
	before := fill(t, `# Ask platform before you change this.
robots:
  # the old one
  - name: deploy # of Bob
    repositories: "ops/**"
    allow: pull
    expires: 2027-01-01
    hashes: [{sha256: HASH0}]
`)
	text, err := auth.SetRobot("t", []byte(before), ci(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# Ask platform", "# the old one", "# of Bob", "expires: 2027-01-01\n", `owner: 'no: 1'`, `repositories: ["coolteam/**"]`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	f, err := auth.ParseRobots("t", text)
	if err != nil {
		t.Fatal(err)
	}
	rotated := *f.Find("robot-ci")
	_, hash := auth.NewRobotSecret()
	rotated.Secrets = []auth.RobotSecret{{Hash: hash}, {Hash: rotated.Secrets[0].Hash, Until: robotNow.Add(time.Hour)}}
	if text, err = auth.SetRobot("t", text, rotated); err != nil {
		t.Fatal(err)
	}
	if f, err = auth.ParseRobots("t", text); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rotated.Secrets, f.Find("ci").Secrets); diff != "" {
		t.Errorf("rotated: %s", diff)
	}
	if text, err = auth.RemoveRobot("t", text, "ci"); err != nil {
		t.Fatal(err)
	}
	if again, _ := auth.ParseRobots("t", text); again.Find("ci") != nil || again.Find("deploy") == nil {
		t.Errorf("after the removal:\n%s", text)
	}
	if _, err := auth.RemoveRobot("t", text, "ci"); err == nil {
		t.Error("removed twice")
	}
	if text, err = auth.RemoveRobot("t", text, "deploy"); err != nil || !strings.Contains(string(text), "robots: []") {
		t.Errorf("the last one: %v\n%s", err, text)
	}
	if text, err = auth.SetRobot("t", text, ci(t)); err != nil || strings.Contains(string(text), "[{") {
		t.Errorf("into an empty list: %v\n%s", err, text)
	}
	if _, err := auth.SetRobot("t", []byte("robots: [\n"), ci(t)); !errors.As(err, new(auth.LineErrors)) {
		t.Errorf("a broken file: %v", err)
	}
}

// What is printed can be pasted.
func TestAnEntryCanBePasted(t *testing.T) {
	r := ci(t)
	f, err := auth.ParseRobots("t", []byte("robots:\n"+auth.RobotEntry(r)))
	if err != nil {
		t.Fatal(err)
	}
	got := f.Robots[0]
	got.Line = 0
	same := cmp.Options{cmp.AllowUnexported(auth.Pattern{}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
	if diff := cmp.Diff(r, got, same); diff != "" {
		t.Errorf("pasted: %s\n%s", diff, auth.RobotEntry(r))
	}
}

// A file that is cut anywhere gives no robot more than the whole one did: not
// another right, nor a secret that stays longer.
func TestACutFileGivesNobodyMore(t *testing.T) {
	r := ci(t)
	_, hash := auth.NewRobotSecret()
	r.Secrets = append(r.Secrets, auth.RobotSecret{Hash: hash, Until: robotNow.Add(time.Hour)})
	text, err := auth.SetRobot("t", nil, r)
	if err != nil {
		t.Fatal(err)
	}
	for n := range text {
		f, err := auth.ParseRobots("t", text[:n])
		if err != nil || f.Find("ci") == nil {
			continue
		}
		got := f.Find("ci")
		for _, s := range got.Secrets {
			if s.Hash == hash && s.Until.IsZero() {
				t.Errorf("cut at %d the old secret stays for ever", n)
			}
		}
		if got.Allow != r.Allow || !got.Expires.Equal(r.Expires) || len(got.From) != 1 {
			t.Errorf("cut at %d: %+v", n, got)
		}
	}
}

func FuzzParseRobots(f *testing.F) {
	for _, text := range []string{"", "robots: []", twoRobots, "robots:\n- {name: ci, repositories: a, allow: pull, hashes: [{sha256: " + aHash + "}]}\n# end", "robots: &a [*a]", "{robots: [{}], robots: 1}", "? [a]\n: b"} {
		f.Add([]byte(fill(f, text)))
	}
	one := ci(f)
	one.Name = "zz"
	f.Fuzz(func(t *testing.T, data []byte) {
		before, err := auth.ParseRobots("t", data)
		if err != nil {
			if all := (auth.LineErrors)(nil); errors.As(err, &all) && (len(all) == 0 || all[0].Line < 1) {
				t.Errorf("no place in %v", err)
			}
			return
		}
		// What can be read can be changed, or is left alone.
		text, err := auth.SetRobot("t", data, one)
		if err != nil {
			return
		}
		after, err := auth.ParseRobots("t", text)
		if err != nil || after.Find("zz") == nil {
			t.Fatalf("written and not to be read: %v\n%s", err, text)
		}
		for _, r := range before.Robots {
			if r.Name != "zz" && after.Find(r.Name) == nil {
				t.Errorf("robot %s is lost", r.Name)
			}
		}
		if _, err := auth.NewPolicy(after.Rules()); err != nil {
			t.Errorf("what was given cannot be compiled: %v", err)
		}
	})
}
