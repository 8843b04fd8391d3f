package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/regward/regward/auth"
)

// robots reads the file of robots. That of the state folder is made by the first
// `regward token create`; until then there are no robots.
func (k *checker) robots() {
	const path = "auth.tokens_file"
	name := k.Auth.TokensFile
	if k.Auth.OwnTokens {
		k.src.watch(name)
		if k.opts.Static {
			return
		}
		f, err := os.Open(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return
		case errors.Is(err, fs.ErrPermission):
			// Whoever validates the file may not be who serves by it.
			k.maybe(path, fmt.Sprintf("robots were not read: %v", err), "run this as who runs regward serve, which must be able to read it")
			k.Auth.RobotsUnread = err
			return
		case err == nil:
			_ = f.Close()
		}
	}
	data, ok := k.read(path, name, auth.MaxTokensFile)
	if !ok {
		return
	}
	file, err := auth.ParseRobots(name, data)
	k.Auth.Robots = file
	var all auth.LineErrors
	if err != nil && !errors.As(err, &all) {
		k.bad(path, err.Error(), "")
	}
	for _, e := range all {
		k.problems = append(k.problems, Problem{File: e.File, Line: e.Line, Col: e.Col, Msg: e.Msg, Fix: e.Fix})
	}
}

// isRobot reports whether a robot logs in by a name.
func (k *checker) isRobot(name string) bool {
	_, is := k.Auth.Robots.Identity(k.fold(name))
	return is
}

// warnRobots: a robot is no user and in no group, even if a person has its
// login. The password tells the two apart, and rules do; logs and limits do not.
func (k *checker) warnRobots() {
	for _, name := range k.users {
		if k.isRobot(name) {
			k.maybe("auth.htpasswd", fmt.Sprintf("user %s has the login of a robot: in logs and limits the two are one", name), "name one of them otherwise")
		}
	}
	for _, group := range slices.Sorted(maps.Keys(k.Groups)) {
		for i, name := range k.Groups[group] {
			if k.isRobot(name) && !slices.Contains(k.users, k.fold(name)) {
				k.maybe(k.entry("groups."+group, i), name+" is a robot, and robots are in no group", "name it where the group is: "+k.tokenOf(name))
			}
		}
	}
}

// warnRobotUsers: whom a rule or a limit takes for users.
func (k *checker) warnRobotUsers(path string, subjects []auth.Subject) {
	for j, s := range subjects {
		if s.Kind() == "user" && k.isRobot(s.Name()) && !slices.Contains(k.users, k.fold(s.Name())) {
			k.maybe(k.entry(path, j), s.Name()+" is a robot, and no user", "write "+k.tokenOf(s.Name()))
		}
	}
}

// tokenOf is the subject that means a robot.
func (k *checker) tokenOf(login string) string {
	return "token:" + k.Auth.Robots.Find(k.fold(login)).Name
}
