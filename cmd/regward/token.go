package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

func (a *app) tokenCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "token",
		Short: "Make, list, rotate and revoke the logins of robots; list and revoke refresh tokens",
		Long: `Make, list, rotate and revoke the logins of robots; list and revoke refresh tokens.

  regward token create ci --repository "coolteam/**" --allow pull --allow push --expires 90d
  regward token list
  regward token rotate ci --overlap 24h      a new secret; the old one is good for a day more
  regward token revoke ci                    ends it, and the tokens it was given, within a second
  regward token revoke 926f69c96a194bee      ends a refresh token, which docker keeps in place of a password
  regward token revoke --user ann            ends all refresh tokens of ann

A robot logs in as robot-NAME. It may what it was given and what rules say of everyone and of
token:NAME, less what they deny. What is kept in auth.tokens_file are hashes: a secret is shown
once. Several instances have the same robots where they have the same file.`,
		Args: cobra.ArbitraryArgs,
		// What stands behind a command that is none is not looked at before the command is.
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError(fmt.Sprintf("token: there is no %q; choose create, list, rotate or revoke", args[0]))
			}
			return usageError("token: choose create, list, rotate or revoke")
		},
	}
	c.AddCommand(a.tokenCreateCommand(), a.tokenListCommand(), a.tokenRotateCommand(), a.tokenRevokeCommand())
	return c
}

// oneRobot wants one name of a command.
func oneRobot(command string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError(command + ": which robot? one NAME")
		}
		return nil
	}
}

// robotAsked is the command line of create.
type robotAsked struct {
	repositories, allow, from []string
	expires, owner            string
	print                     bool
}

// tokenMade is what create and rotate print as JSON.
type tokenMade struct {
	Name     string     `json:"name"` // the login name
	Secret   string     `json:"secret"`
	Expires  *time.Time `json:"expires"` // null: never
	OldUntil *time.Time `json:"old_until,omitempty"`
	Entry    string     `json:"entry,omitempty"` // with --print
}

func (a *app) tokenCreateCommand() *cobra.Command {
	var q robotAsked
	c := &cobra.Command{
		Use:   "create NAME --repository P --allow pull [--expires 90d] [--from NET] [--owner O] [--print]",
		Short: "Make a robot and print its secret, once",
		Args:  oneRobot("token create"),
		RunE:  do(func(ctx context.Context, args []string) error { return a.tokenCreate(ctx, args[0], q) }),
	}
	f := c.Flags()
	f.StringSliceVar(&q.repositories, "repository", nil, "a `PATTERN` of repositories, as in rules; may be repeated")
	f.StringSliceVar(&q.allow, "allow", nil, "pull, push, delete or \"*\"; may be repeated")
	f.StringVar(&q.expires, "expires", "90d", "after how `LONG`, as in 90d, or never")
	f.StringSliceVar(&q.from, "from", nil, "a `NETWORK` it must come from; may be repeated")
	f.StringVar(&q.owner, "owner", "", "whom to ask about it: a `NAME`, for the list")
	f.BoolVar(&q.print, "print", false, "change no file: print an entry to paste into it")
	return c
}

// robot is what the command line asks for, without a secret. The error is wrong
// use.
func (q *robotAsked) robot(name string, now time.Time) (r auth.Robot, err error) {
	r = auth.Robot{Name: name, Owner: q.owner}
	wrong := func(flag string, err error) error {
		text := "token create: " + flag + err.Error()
		if syntax := (*auth.SyntaxError)(nil); errors.As(err, &syntax) && syntax.Fix != "" {
			text += "; " + syntax.Fix
		}
		return usageError(text)
	}
	if err := auth.CheckRobotName(name); err != nil {
		return r, wrong("", err)
	}
	switch {
	case len(q.repositories) == 0:
		return r, usageError(`token create: for what? --repository "team/**"`)
	case len(q.allow) == 0:
		return r, usageError("token create: what may it? --allow pull")
	case len(q.owner) > auth.MaxUser || strings.ContainsFunc(q.owner, func(r rune) bool { return r < ' ' }):
		return r, usageError("token create: --owner is one short line")
	}
	for _, text := range q.repositories {
		p, err := auth.ParsePattern(text)
		if err == nil {
			err = auth.CheckRobotPattern(p)
		}
		if err != nil {
			return r, wrong("--repository: ", err)
		}
		r.Repositories = append(r.Repositories, p)
	}
	for _, word := range q.allow {
		some, err := auth.ParseActions(word)
		if err != nil {
			return r, wrong("--allow: ", err)
		}
		r.Allow |= some
	}
	for _, text := range q.from {
		p, err := auth.ParseNetwork(text)
		if err != nil {
			return r, wrong("--from: ", err)
		}
		r.From = append(r.From, p)
	}
	if r.Expires, err = expiry(q.expires, now); err != nil {
		return r, wrong("--expires: ", err)
	}
	return r, nil
}

// expiry is the time after a length, zero for never.
func expiry(text string, now time.Time) (time.Time, error) {
	if text == "never" {
		return time.Time{}, nil
	}
	d, err := configs.ParseDuration(text)
	if err == nil && d <= 0 {
		err = fmt.Errorf("%q is over at once", text)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("%w; write as in 90d, 12h or never", err)
	}
	return now.Add(time.Duration(d)).UTC().Truncate(time.Second), nil
}

func (a *app) tokenCreate(ctx context.Context, name string, q robotAsked) error {
	r, err := q.robot(name, time.Now())
	if err != nil {
		return err
	}
	secret, hash := auth.NewRobotSecret()
	r.Secrets = []auth.RobotSecret{{Hash: hash}}
	made := tokenMade{Name: r.Login(), Secret: secret, Expires: orNull(r.Expires)}
	if q.print {
		made.Entry = auth.RobotEntry(r)
		return a.printMade(made, &r)
	}
	path, err := a.tokensFile()
	if err != nil {
		return err
	}
	file, err := editRobots(ctx, path, func(data []byte, f *auth.RobotFile) ([]byte, error) {
		if old := f.Find(name); old != nil {
			return nil, fmt.Errorf("robot %s is there already (%s:%d): regward token rotate %s gives it a new secret", name, path, old.Line, name)
		}
		return auth.SetRobot(path, data, r)
	})
	if err != nil {
		return err
	}
	if err := a.printMade(made, &r); err != nil {
		return err
	}
	return a.awaitTaken(ctx, file)
}

// printMade is the one time that a secret is shown.
func (a *app) printMade(made tokenMade, r *auth.Robot) error {
	if a.json() {
		return a.printJSON(made)
	}
	to := a.stdout
	if made.Entry != "" { // alone there: with >> it goes into a file, which may be in git
		fmt.Fprint(a.stdout, made.Entry)
		fmt.Fprintln(a.stderr, "The entry goes below robots: in auth.tokens_file.")
		to = a.stderr
	}
	fmt.Fprintf(to, "login    %s\nsecret   %s\nmay      %s\nexpires  %s\n", made.Name, made.Secret, given(r), expiresWords(r.Expires, time.Now()))
	if made.OldUntil != nil {
		fmt.Fprintf(to, "before   the old secret is good until %s\n", made.OldUntil.Format(clockUTC))
	}
	_, err := fmt.Fprintln(a.stderr, "The secret is shown this once and kept nowhere: docker login -u "+made.Name+" --password-stdin HOST")
	return err
}

const clockUTC = "2006-01-02 15:04 UTC"

// given is what a robot may, in words.
func given(r *auth.Robot) string {
	text := r.Allow.String() + " on " + joinTexts(r.Repositories, auth.Pattern.String)
	if len(r.From) > 0 {
		text += " from " + joinTexts(r.From, netip.Prefix.String)
	}
	return text
}

func joinTexts[T any](list []T, text func(T) string) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = text(v)
	}
	return strings.Join(words, ", ")
}

func expiresWords(at, now time.Time) string {
	switch {
	case at.IsZero():
		return "never"
	case !now.Before(at):
		return at.Format(clockUTC) + ", expired"
	}
	return at.Format(clockUTC) + ", in " + roughly(at.Sub(now))
}

// roughly is a length as people say it: 89d, 3h, 5m.
func roughly(d time.Duration) string {
	switch d = d.Round(time.Minute); {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d >= time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return "less than a minute"
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// noRobot says that there is none of a name, and what there is instead.
func noRobot(f *auth.RobotFile, name string) error {
	if len(f.Robots) == 0 {
		return fmt.Errorf("there is no robot %s: %s has none at all", name, f.Name)
	}
	return fmt.Errorf("there is no robot %s in %s; regward token list shows those there are", name, f.Name)
}

func (a *app) tokenRevokeCommand() *cobra.Command {
	user := ""
	c := &cobra.Command{
		Use:   "revoke NAME | ID | --user U",
		Short: "Take a robot's login away, and the tokens it was given; or end a refresh token, or all of a user",
		Args: func(_ *cobra.Command, args []string) error {
			if user == "" && len(args) != 1 {
				return usageError("token revoke: which? one NAME of a robot, one ID of a refresh token, or --user U")
			}
			if user != "" && len(args) > 0 {
				return usageError(fmt.Sprintf("token revoke: one of the two: %s, or --user %s", args[0], user))
			}
			return nil
		},
	}
	c.Flags().StringVar(&user, "user", "", "whose refresh tokens: the `NAME` they log in with")
	c.RunE = do(func(ctx context.Context, args []string) error {
		cfg, err := a.tokensConfig()
		if err != nil {
			return err
		}
		if user != "" {
			return a.revokeRefresh(ctx, cfg, refreshRevoke{User: user})
		}
		if isRefresh(args[0], cfg.Auth.TokensFile) {
			return a.revokeRefresh(ctx, cfg, refreshRevoke{ID: args[0]})
		}
		return a.revokeRobot(ctx, cfg.Auth.TokensFile, args[0])
	})
	return c
}

func (a *app) revokeRobot(ctx context.Context, path, name string) error {
	var login string
	file, err := editRobots(ctx, path, func(data []byte, f *auth.RobotFile) ([]byte, error) {
		r := f.Find(name)
		if r == nil {
			return nil, noRobot(f, name)
		}
		login = r.Login()
		return auth.RemoveRobot(path, data, r.Name)
	})
	if err != nil {
		return err
	}
	if a.json() {
		err = a.printJSON(map[string]string{"name": login})
	} else {
		_, err = fmt.Fprintf(a.stdout, "%s is revoked, and the tokens it was given with it\n", login)
	}
	if err != nil {
		return err
	}
	return a.awaitTaken(ctx, file)
}
