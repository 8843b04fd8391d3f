package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/regward/regward/auth"
)

func (a *app) hashPasswordCommand() *cobra.Command {
	var user string
	c := &cobra.Command{
		Use:   "hash-password",
		Short: "Make the hash of a password, read from the terminal or stdin",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("hash-password: a password is read from the terminal or stdin, never from an argument, which others can see; --user NAME names the user")
			}
			return nil
		},
		RunE: do(func(context.Context, []string) error {
			if strings.ContainsAny(user, ":\r\n") {
				return usageError("--user: a user name has no colon and no line break")
			}
			password, err := a.newPassword()
			if err != nil {
				return err
			}
			hash, err := auth.HashPassword(password)
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(map[string]string{"user": user, "hash": hash})
			}
			if user != "" {
				hash = user + ":" + hash
			}
			_, err = fmt.Fprintln(a.stdout, hash)
			return err
		}),
	}
	c.Flags().StringVar(&user, "user", "", "print the whole htpasswd line for `NAME`")
	return c
}

// newPassword asks twice on a terminal, and reads one line from anything else.
func (a *app) newPassword() (string, error) {
	f, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return a.readPassword()
	}
	var typed [2][]byte
	for i, prompt := range []string{"Password: ", "Again: "} {
		fmt.Fprint(a.stderr, prompt)
		var err error
		typed[i], err = term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(a.stderr)
		if err != nil {
			return "", err
		}
	}
	if string(typed[0]) != string(typed[1]) {
		return "", errors.New("the two passwords are not the same")
	}
	if len(typed[0]) == 0 {
		return "", errors.New("an empty password lets nobody in")
	}
	return string(typed[0]), nil
}

// readPassword reads the first line of stdin, which may be a token.
func (a *app) readPassword() (string, error) {
	line, err := bufio.NewReader(io.LimitReader(a.stdin, auth.MaxToken+2)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", errors.New("no password on stdin")
	}
	return line, nil
}
