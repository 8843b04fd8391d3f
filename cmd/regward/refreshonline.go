package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/regward/regward/configs"
)

// checkRefresh reads the file of refresh tokens as serve would: one that cannot
// be read ends nobody's login, and lets nobody with one in.
func checkRefresh(cfg *configs.Config, say reporter) {
	if !cfg.Token.Refresh || cfg.Redis.Shared() {
		return
	}
	path := refreshPath(cfg)
	switch _, err := readRefreshFile(path); {
	case errors.Is(err, fs.ErrPermission): // whoever validates may not be who serves
		say(configs.Warning, "token.refresh", fmt.Sprintf("refresh tokens were not read: %v", err), "run this as who runs regward serve, which must be able to read it")
	case err != nil:
		say(configs.Error, "token.refresh", fmt.Sprintf("%s cannot be read, and no refresh token is taken or given: %v", path, err),
			"put the file right, or remove it: then everybody who has a refresh token logs in again")
	}
}
