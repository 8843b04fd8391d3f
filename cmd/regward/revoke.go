package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/fleet"
)

// revokeAsked is the body of POST /api/v1/revoke.
type revokeAsked struct {
	User string `json:"user"`
	By   string `json:"by,omitempty"`
}

// revoke ends what was proven of one user, on all instances.
func (s *server) revoke(w http.ResponseWriter, r *http.Request) {
	var q revokeAsked
	if !readJSON(w, r, &q) {
		return
	}
	if q.User == "" || len(q.User) > auth.MaxUser || strings.ContainsAny(q.User, "\r\n\x00") {
		plain(w, http.StatusBadRequest, "user: whom?")
		return
	}
	user := folded(s.live.Load().cfg, q.User)
	err := s.shared.fleet.Load().Revoke(r.Context(), user, time.Time{})
	if err != nil && !errors.Is(err, fleet.ErrNotShared) {
		plain(w, http.StatusInternalServerError, err.Error())
		return
	}
	s.handler.Audit.Write("revocation", zap.String("user", user), zap.String("by", q.By), zap.Bool("shared", err == nil))
	writeJSON(w, http.StatusOK, doneOr(err))
}

func (a *app) revokeCommand() *cobra.Command {
	var user string
	c := &cobra.Command{
		Use:   "revoke --user U",
		Short: "End tokens, running pushes and remembered logins of one user, on all instances",
		Args:  cobra.NoArgs,
	}
	c.Flags().StringVar(&user, "user", "", "whose: the `NAME` they log in with")
	c.RunE = do(func(ctx context.Context, _ []string) error {
		if user == "" {
			return usageError("revoke: whom? --user NAME")
		}
		client, err := a.adminClient()
		if err != nil {
			return err
		}
		var answer done
		if err := client.call(ctx, http.MethodPost, "/api/v1/revoke", revokeAsked{User: user, By: a.operator()}, &answer); err != nil {
			return err
		}
		if a.json() {
			err = a.printJSON(answer)
		} else {
			fmt.Fprintf(a.stdout, "%s is put out: tokens, pushes under way and remembered logins from before now count no more.\n", user)
			fmt.Fprintf(a.stdout, "Whoever still has the password may log in again: take the login away where it is kept too.\n")
		}
		return a.notShared(answer.NotShared, err)
	})
	return c
}
