package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/fleet"
)

// revokeAsked is the body of POST /api/v1/revoke: one user, or everybody.
type revokeAsked struct {
	User      string `json:"user,omitempty"`
	Everybody bool   `json:"everybody,omitempty"`
	By        string `json:"by,omitempty"`
}

// check says what is wrong with the question. That nobody is named does not mean
// everybody: a script whose variable is empty must not put all out.
func (q *revokeAsked) check() string {
	switch {
	case q.User == "" && !q.Everybody:
		return "whom? user, or everybody: true"
	case q.User != "" && q.Everybody:
		return "one of the two: user, or everybody: true"
	case len(q.User) > auth.MaxUser || strings.ContainsFunc(q.User, unicode.IsControl):
		return fmt.Sprintf("user: no name: at most %d bytes, no line breaks", auth.MaxUser)
	}
	return ""
}

// revoke ends what was proven of one user, or of everybody, on all instances.
func (s *server) revoke(w http.ResponseWriter, r *http.Request) {
	var q revokeAsked
	if !readJSON(w, r, &q) {
		return
	}
	if wrong := q.check(); wrong != "" {
		plain(w, http.StatusBadRequest, wrong)
		return
	}
	user, whom := "", zap.Bool("everybody", true)
	if !q.Everybody {
		user = folded(s.live.Load().cfg, q.User)
		whom = zap.String("user", user)
	}
	err := s.shared.fleet.Load().Revoke(r.Context(), user, time.Time{})
	if err != nil && !errors.Is(err, fleet.ErrNotShared) {
		plain(w, http.StatusInternalServerError, err.Error())
		return
	}
	s.handler.Audit.Write("revocation", whom, zap.String("by", q.By), zap.Bool("shared", err == nil))
	writeJSON(w, http.StatusOK, doneOr(err))
}

func (a *app) revokeCommand() *cobra.Command {
	var q revokeAsked
	c := &cobra.Command{
		Use:   "revoke --user U | --everybody",
		Short: "End tokens, running pushes and remembered logins of one user or of everybody, on all instances",
		Long: `What was proven before counts no more: tokens, refresh tokens, pushes under way, remembered logins.
Whoever still has a password that is right may log in again, and docker does so by itself:
take the login away where it is kept first.`,
		Args: nothingBut("revoke: --user %s?"),
	}
	c.Flags().StringVar(&q.User, "user", "", "whose: the `NAME` they log in with")
	c.Flags().BoolVar(&q.Everybody, "everybody", false, "everybody's: each client has to log in anew")
	c.RunE = do(func(ctx context.Context, _ []string) error {
		switch {
		case q.User == "" && !q.Everybody:
			return usageError("revoke: whom? --user NAME, or --everybody")
		case q.User != "" && q.Everybody:
			return usageError("revoke: one of the two: --user NAME, or --everybody")
		}
		client, err := a.adminClient()
		if err != nil {
			return err
		}
		q.By = a.operator()
		var answer done
		if err := client.call(ctx, http.MethodPost, "/api/v1/revoke", q, &answer); err != nil {
			return err
		}
		if a.json() {
			err = a.printJSON(answer)
		} else {
			fmt.Fprintf(a.stdout, "%s is put out: tokens, refresh tokens, pushes under way and remembered logins from before count no more.\n", everybody(q.User))
			fmt.Fprintf(a.stdout, "Whoever still has the password may log in again: take the login away where it is kept too.\n")
		}
		return a.notShared(answer.NotShared, err)
	})
	return c
}
