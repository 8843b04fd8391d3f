package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/regward/regward/auth"
)

// takenWait is how long a running instance may need to load a change: it looks
// 200 ms after it, and a large file takes a moment.
const takenWait = 5 * time.Second

// robotsAnswer is the answer of GET /api/v1/robots: what the running instance
// has loaded, and what only it knows.
type robotsAnswer struct {
	File string               `json:"file"`
	Sum  string               `json:"sum"`  // SHA-256 of the file that is in force, in hex
	Used map[string]time.Time `json:"used"` // by robot and ID of the secret: "ci/2c26b46b"
}

func sumOf(f *auth.RobotFile) string {
	if f == nil {
		return ""
	}
	return hex.EncodeToString(f.Sum[:])
}

// askRobots asks the running instance, if there is one that answers at once and
// serves by this file.
func (a *app) askRobots(ctx context.Context, path string) (answer robotsAnswer, ok bool) {
	client, err := a.adminClient()
	if err != nil {
		return answer, false
	}
	ctx, cancel := context.WithTimeout(ctx, takenWait)
	defer cancel()
	err = client.call(ctx, http.MethodGet, "/api/v1/robots", nil, &answer)
	return answer, err == nil && sameFile(answer.File, path)
}

func sameFile(one, other string) bool {
	a, err1 := filepath.EvalSymlinks(absolute(one))
	b, err2 := filepath.EvalSymlinks(absolute(other))
	return err1 == nil && err2 == nil && a == b
}

// awaitTaken waits until the running instance has loaded what was written. Where
// none runs there is nobody to wait for.
func (a *app) awaitTaken(ctx context.Context, f *auth.RobotFile) error {
	ctx, cancel := context.WithTimeout(ctx, takenWait)
	defer cancel()
	for {
		answer, ok := a.askRobots(ctx, f.Name)
		if ctx.Err() == nil && (!ok || answer.Sum == sumOf(f)) {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return errors.New("written, but the running instance has not loaded it: regward reload says why")
		}
	}
}

// robotShown is one robot as list prints it.
type robotShown struct {
	Kind         string         `json:"kind"` // "robot"
	Name         string         `json:"name"` // the login name
	Owner        string         `json:"owner,omitempty"`
	Repositories []auth.Pattern `json:"repositories"`
	Allow        []string       `json:"allow"`
	From         []netip.Prefix `json:"from,omitempty"`
	Expires      *time.Time     `json:"expires"`
	Secrets      []secretShown  `json:"secrets"`

	robot *auth.Robot
}

type secretShown struct {
	ID    string     `json:"id"` // the first eight digits of its hash
	Until *time.Time `json:"until,omitempty"`
	Used  *time.Time `json:"used"` // null: not that it is known
}

func (a *app) tokenListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List robots and refresh tokens: what each robot may, who keeps a refresh token where, and what was last used when",
		Args:  nothingBut("token list: takes no %q"),
		RunE:  do(func(ctx context.Context, _ []string) error { return a.tokenList(ctx) }),
	}
}

func (a *app) tokenList(ctx context.Context) error {
	cfg, err := a.tokensConfig()
	if err != nil {
		return err
	}
	_, file, err := readRobots(cfg.Auth.TokensFile)
	if err != nil {
		return err
	}
	robots := a.showRobots(ctx, file)
	refresh, missed := a.refreshTokens(ctx, cfg) // robots are listed all the same
	if a.json() {
		all := []any{}
		for _, r := range robots {
			all = append(all, r)
		}
		for _, t := range refresh {
			all = append(all, t)
		}
		return errors.Join(a.printJSON(all), missed)
	}
	err = a.printRobots(robots, time.Now())
	if err == nil && len(refresh) > 0 {
		fmt.Fprintln(a.stdout)
		err = a.printRefresh(refresh, time.Now())
	}
	return errors.Join(err, missed)
}

func (a *app) showRobots(ctx context.Context, file *auth.RobotFile) []robotShown {
	used := a.lastUses(ctx, file)
	all := []robotShown{}
	for i := range file.Robots {
		r := &file.Robots[i]
		shown := robotShown{
			Kind: "robot", Name: r.Login(), Owner: r.Owner, Repositories: r.Repositories, From: r.From,
			Expires: orNull(r.Expires), robot: r,
		}
		for _, action := range actions() {
			if r.Allow.Has(action) {
				shown.Allow = append(shown.Allow, action.String())
			}
		}
		for _, s := range r.Secrets {
			shown.Secrets = append(shown.Secrets, secretShown{ID: s.Hash.ID(), Until: orNull(s.Until), Used: orNull(used(r.Name, s.Hash))})
		}
		all = append(all, shown)
	}
	return all
}

// lastUses asks the running instance, or reads what the last one wrote down.
func (a *app) lastUses(ctx context.Context, file *auth.RobotFile) func(robot string, hash auth.RobotHash) time.Time {
	if answer, ok := a.askRobots(ctx, file.Name); ok {
		return func(robot string, hash auth.RobotHash) time.Time { return answer.Used[robot+"/"+hash.ID()] }
	}
	src, at, err := a.places()
	if err != nil {
		return (*auth.RobotUses)(nil).Last
	}
	data, _ := readBounded(filepath.Join(src.inFolder(at.StateDir), usesFile))
	uses, _ := auth.NewRobotUses(data) // a broken one knows nothing
	return uses.Last
}

func (a *app) printRobots(all []robotShown, now time.Time) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(a.stdout, "no robots")
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "LOGIN\tOWNER\tMAY\tEXPIRES\tSECRET\tUSED")
	for _, r := range all {
		left := fmt.Sprintf("%s\t%s\t%s\t%s", r.Name, r.Owner, given(r.robot), expiresWords(r.robot.Expires, now))
		for _, s := range r.Secrets {
			used := "never"
			if s.Used != nil {
				used = roughly(now.Sub(*s.Used)) + " ago"
			}
			if s.Until != nil {
				used += ", ends " + s.Until.Format(clockUTC)
				if !now.Before(*s.Until) {
					used = "ended " + s.Until.Format(clockUTC)
				}
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", left, s.ID, used)
			left = "\t\t\t"
		}
	}
	return w.Flush()
}
