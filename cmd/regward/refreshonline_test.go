package main

import (
	"path/filepath"
	"testing"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

func TestOnlineReadsRefreshTokens(t *testing.T) {
	cfg := &configs.Config{StateDir: t.TempDir(), Token: configs.Token{Refresh: true}}
	path := filepath.Join(cfg.StateDir, refreshName)
	told := func(what, says string) {
		t.Helper()
		key, fix := "token.refresh", "put the file right, or remove it"
		if says == "" {
			key, fix = "", ""
		}
		expectTold(t, what, problemsOf(func(say reporter) { checkRefresh(cfg, say) }), key, says, fix)
	}
	told("none yet", "")
	good := string(auth.FormatRefreshFile([]auth.RefreshToken{refreshToken(1, "ann")}))
	write(t, path, good)
	told("good", "")
	for _, n := range []int{0, 5, len(good) / 2, len(good) - 4} {
		write(t, path, good[:n])
		told("half", path+" cannot be read")
	}
	cfg.Token.Refresh = false
	told("not in use", "")
}
