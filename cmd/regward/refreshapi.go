package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/regward/regward/auth"
)

// refreshShown is a refresh token as list tells of it.
type refreshShown struct {
	Kind    string    `json:"kind"` // "refresh"
	ID      string    `json:"id"`   // the first 16 digits of its hash
	User    string    `json:"user"`
	Host    string    `json:"host"`
	Via     string    `json:"via"`
	Client  string    `json:"client,omitempty"`
	Addr    string    `json:"addr"`
	Created time.Time `json:"created"`
	Used    time.Time `json:"used"`
}

// refreshAnswer is the answer of GET /api/v1/refresh.
type refreshAnswer struct {
	Tokens []refreshShown `json:"tokens"` // by user, the newest first
}

// refreshRevoke is the body of POST /api/v1/refresh/revoke: one token, or all of
// a user.
type refreshRevoke struct {
	ID   string `json:"id,omitempty"`
	User string `json:"user,omitempty"`
	By   string `json:"by,omitempty"`
}

// refreshRevoked is its answer.
type refreshRevoked struct {
	Tokens []refreshShown `json:"tokens"` // that were ended
}

func showRefresh(all []auth.RefreshToken) []refreshShown {
	shown := make([]refreshShown, 0, len(all))
	for _, t := range all {
		shown = append(shown, refreshShown{"refresh", t.Hash.ID(), t.User, t.Host, t.Via, t.Client, t.Addr, t.Created, t.Used})
	}
	slices.SortFunc(shown, func(a, b refreshShown) int {
		return cmp.Or(cmp.Compare(a.User, b.User), b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	return shown
}

// listRefresh answers GET /api/v1/refresh.
func (s *server) listRefresh(w http.ResponseWriter, r *http.Request) {
	all, err := s.refresh.tokens.Of(r.Context(), "")
	if err != nil {
		plain(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	writeJSON(w, http.StatusOK, refreshAnswer{showRefresh(all)})
}

// revokeRefresh answers POST /api/v1/refresh/revoke.
func (s *server) revokeRefresh(w http.ResponseWriter, r *http.Request) {
	var q refreshRevoke
	if !readJSON(w, r, &q) {
		return
	}
	if (q.ID == "") == (q.User == "") {
		plain(w, http.StatusBadRequest, "which? one of the two: id, or user")
		return
	}
	if q.User != "" {
		q.User = folded(s.live.Load().cfg, q.User)
	}
	ended, err := endRefresh(r.Context(), s.refresh.tokens.Of, s.refresh.tokens.End, q)
	if err != nil {
		plain(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	if len(ended) == 0 {
		plain(w, http.StatusNotFound, noRefresh(q))
		return
	}
	for _, t := range ended {
		s.handler.Audit.Write("revocation", zap.String("user", t.User), zap.String("refresh_token", t.ID), byWhom(q.By))
	}
	writeJSON(w, http.StatusOK, refreshRevoked{ended})
}

// endRefresh ends what is asked for, of what of lists.
func endRefresh(ctx context.Context, of func(context.Context, string) ([]auth.RefreshToken, error),
	end func(context.Context, ...auth.RefreshHash) (int, error), q refreshRevoke) ([]refreshShown, error) {
	all, err := of(ctx, q.User)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(t auth.RefreshToken) bool { return q.ID != "" && t.Hash.ID() != q.ID })
	hashes := make([]auth.RefreshHash, len(all))
	for i := range all {
		hashes[i] = all[i].Hash
	}
	if len(hashes) == 0 {
		return nil, nil
	}
	_, err = end(ctx, hashes...)
	return showRefresh(all), err
}

func noRefresh(q refreshRevoke) string {
	if q.User != "" {
		return fmt.Sprintf("%.*q has no refresh token", auth.MaxUser, q.User)
	}
	return fmt.Sprintf("there is no refresh token %s; regward token list shows those there are", strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, q.ID))
}
