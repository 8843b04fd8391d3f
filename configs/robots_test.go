package configs_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

func TestRobotsAreReadWithTheRest(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "tokens.yaml")
	parse := func(more string, static bool) (*configs.Config, error) {
		text := "hostname: a.example\ntls: {mode: internal}\nupstream: http://registry:5000\nstate_dir: .\n" +
			"rules: [{subjects: token:ci, repositories: \"x/**\", allow: pull}]\n" + more
		return configs.Parse("regward.yaml", []byte(text), configs.Options{Dir: dir, Static: static})
	}
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := parse("", false)
	if err != nil || c.Auth.Robots != nil || !slices.Contains(c.Files(), file) {
		t.Fatalf("no file yet: %v", err)
	}
	before := c.Version
	if _, err := parse("auth: {tokens_file: tokens.yaml}\n", false); err == nil || !strings.Contains(err.Error(), "auth.tokens_file: ") {
		t.Errorf("one that was asked for is missing: %v", err)
	}
	_, hash := auth.NewRobotSecret()
	put("robots:\n  - name: ci\n    repositories: \"team/**\"\n    allow: pull\n    hashes: [{sha256: " + hash.String() + "}]\n")
	const promises = "tests:\n  - {as: robot-ci, may: pull, repository: team/app}\n  - {as: robot-ci, may_not: push, repository: team/app}\n  - {as: robot-ci, may: pull, repository: x/y}\n"
	if c, err = parse(promises, false); err != nil {
		t.Fatal(err)
	}
	if rules := c.PolicyRules(); len(rules) != 2 || rules[1].Where != "robot ci in tokens.yaml:2" {
		t.Errorf("rules: %v", rules)
	}
	if own, err := parse("", false); err != nil || own.Version != before {
		t.Errorf("robots of one instance alone are another configuration: %v", err)
	}
	if named, err := parse("auth: {tokens_file: tokens.yaml}\n", false); err != nil || named.Version == before {
		t.Errorf("robots of all instances are none: %v", err)
	}
	// A robot and a person of one login are told apart by all but the records.
	users := filepath.Join(dir, "htpasswd")
	const ann = "ann:$2a$10$Y0Zv7rEVzehBfwsvDO7YseuC3Gcs7M8GFDG8iGR1u1eik2wRhZdZa\n"
	if err := os.WriteFile(users, []byte("robot-ci:$2a$10$Y0Zv7rEVzehBfwsvDO7YseuC3Gcs7M8GFDG8iGR1u1eik2wRhZdZa\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	warned := func(more, want string) {
		t.Helper()
		c, err := parse("auth: {htpasswd: htpasswd}\n"+more, false)
		if err != nil || !slices.ContainsFunc(c.Warnings, func(p configs.Problem) bool { return strings.Contains(p.String(), want) }) {
			t.Errorf("not warned of: %s, %v", want, err)
		}
	}
	warned("", "auth.htpasswd: user robot-ci has the login of a robot: in logs and limits the two are one")
	if err := os.WriteFile(users, []byte(ann), 0o600); err != nil {
		t.Fatal(err)
	}
	warned("groups: {robots: [ann, robot-ci]}\n", "groups.robots[1]: robot-ci is a robot, and robots are in no group\n\tfix: name it where the group is: token:ci")
	warned("limits: [{name: ci, subjects: [user:Robot-ci], count: pulls, rate: 1/s}]\n", "limits[0].subjects[0]: robot-ci is a robot, and no user\n\tfix: write token:ci")
	if c, err = parse("", true); err != nil || c.Auth.Robots != nil {
		t.Errorf("static: %v", err)
	}
	put("robots:\n  - nam: ci\n")
	want := file + `:2:5: unknown key "nam"` + "\n\tfix: write one of name,"
	if _, err = parse("", false); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a mistake: %v, want %s", err, want)
	}
	put("")
	if _, err = parse("", false); err == nil || !strings.Contains(err.Error(), "tokens.yaml is empty") {
		t.Errorf("an empty file: %v", err)
	}
	if os.Getuid() != 0 {
		put("robots: []\n")
		if err := os.Chmod(file, 0); err != nil {
			t.Fatal(err)
		}
		if c, err = parse("", false); err != nil || !errors.Is(c.Auth.RobotsUnread, os.ErrPermission) || len(c.Warnings) == 0 {
			t.Errorf("a file that may not be read: %v", err)
		}
	}
}
