package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

// buildOIDC are the issuers whose tokens are passwords, nil if there are none. It
// asks nobody yet. previous is what was built before a reload, for the keys it
// has; it may be nil, as tokens may be where nothing is signed. The error is a
// *keyError.
func buildOIDC(cfg *configs.Config, tokens *auth.Tokens, previous *auth.OIDC) (*auth.OIDC, error) {
	if len(cfg.Auth.OIDC) == 0 {
		return nil, nil
	}
	o := auth.OIDCOptions{CaseSensitive: cfg.Auth.CaseSensitive, Now: time.Now, Previous: previous}
	if tokens != nil {
		o.Key = tokens.Derive("oidc proof")[0] // the same on every instance
	}
	for i := range cfg.Auth.OIDC {
		one := &cfg.Auth.OIDC[i]
		o.Issuers = append(o.Issuers, auth.IssuerOptions{
			Name:        one.Name,
			Issuer:      one.Issuer,
			Audience:    one.Audience,
			Require:     one.Require,
			User:        one.User,
			Groups:      one.Groups,
			GroupsClaim: one.GroupsClaim,
			CA:          one.CA,
			Algorithms:  one.Algorithms,
		})
	}
	issuers, err := auth.NewOIDC(o)
	if option := (*auth.OptionError)(nil); errors.As(err, &option) {
		return nil, &keyError{fmt.Sprintf("auth.oidc[%d].%s", option.Index, option.Key), option.Err}
	}
	return issuers, err
}
