package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"go.uber.org/zap"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

// errInRedis is what a command says where only a running instance can help.
var errInRedis = errors.New("refresh tokens are in Redis, and no running instance can be asked about them")

// askRefresh asks the running instance. reached is false where there is none.
func (a *app) askRefresh(ctx context.Context, method, target string, in, out any) (reached bool, err error) {
	client, err := a.adminClient()
	if err != nil {
		return false, nil
	}
	sent, err := json.Marshal(in)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	status, body, err := client.send(ctx, method, target, sent)
	switch text := strings.TrimSpace(string(body)); {
	case err != nil:
		return false, nil
	case status == http.StatusOK:
		return true, json.Unmarshal(body, out)
	case status == http.StatusForbidden, text == "":
		return true, fmt.Errorf("the running instance answered %d: %s", status, text)
	default:
		return true, errors.New(text)
	}
}

// refreshTokens are those there are: as the running instance says, or as its file
// does.
func (a *app) refreshTokens(ctx context.Context, cfg *configs.Config) ([]refreshShown, error) {
	var answer refreshAnswer
	if reached, err := a.askRefresh(ctx, http.MethodGet, "/api/v1/refresh", nil, &answer); reached {
		return answer.Tokens, err
	}
	if cfg.Redis.Shared() {
		if !cfg.Token.Refresh {
			return nil, nil
		}
		return nil, errInRedis
	}
	all, err := readRefreshFile(refreshPath(cfg))
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", refreshPath(cfg), err)
	}
	return showRefresh(all), nil
}

func refreshPath(cfg *configs.Config) string { return filepath.Join(cfg.StateDir, refreshName) }

func (a *app) printRefresh(all []refreshShown, now time.Time) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "USER\tHOST\tCLIENT\tFROM\tMADE\tUSED\tREFRESH TOKEN")
	for _, t := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s ago\t%s\n", t.User, t.Host, t.Client, t.Addr, t.Created.Format(clockUTC), roughly(now.Sub(t.Used)), t.ID)
	}
	return w.Flush()
}

// revokeRefresh ends one refresh token, or all of a user: by the running instance,
// or in the file of one that does not run.
func (a *app) revokeRefresh(ctx context.Context, cfg *configs.Config, q refreshRevoke) error {
	q.By = a.operator()
	var answer refreshRevoked
	reached, err := a.askRefresh(ctx, http.MethodPost, "/api/v1/refresh/revoke", q, &answer)
	if err == nil && !reached {
		if cfg.Redis.Shared() {
			return errInRedis
		}
		file := newRefreshFile(refreshPath(cfg), time.Now, zap.NewNop())
		q.User = folded(cfg, q.User)
		if answer.Tokens, err = endRefresh(ctx, file.Of, file.Delete, q); err == nil && len(answer.Tokens) == 0 {
			err = errors.New(noRefresh(q))
		}
	}
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(answer.Tokens)
	}
	for _, t := range answer.Tokens {
		fmt.Fprintf(a.stdout, "refresh token %s of %s is revoked\n", t.ID, t.User)
	}
	user := answer.Tokens[0].User
	_, err = fmt.Fprintf(a.stdout, "Who has it logs in again. Tokens it was given before end within %s; regward revoke --user %s ends those at once.\n",
		time.Duration(cfg.Token.TTL), user)
	return err
}

// isRefresh reports whether an argument means a refresh token and no robot.
func isRefresh(arg, robots string) bool {
	if !auth.IsRefreshID(arg) {
		return false
	}
	_, file, err := readRobots(robots)
	return err != nil || file.Find(arg) == nil
}
