package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

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
	for _, user := range k.users {
		// The password tells them apart, and rules do; logs and limits per user do not.
		if _, robot := file.Identity(user); robot {
			k.maybe("auth.htpasswd", fmt.Sprintf("user %s has the login of a robot: in logs and limits the two are one", user), "name one of them otherwise")
		}
	}
}
