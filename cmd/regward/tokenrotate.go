package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

func (a *app) tokenRotateCommand() *cobra.Command {
	overlap, expires := "24h", ""
	c := &cobra.Command{
		Use:   "rotate NAME [--overlap 24h] [--expires 90d]",
		Short: "Give a robot a new secret and print it, once; the old one is good for a while",
		Long: `Give a robot a new secret and print it, once. The old one is good for --overlap; with 0, which
is for a secret that got out, it ends at once and with it all tokens it was given. The robot's
expiry stays, unless --expires says otherwise.`,
		Args: oneRobot("token rotate"),
	}
	c.Flags().StringVar(&overlap, "overlap", overlap, "for how `LONG` the old secret is good, as in 24h; 0 ends it at once")
	c.Flags().StringVar(&expires, "expires", "", "after how `LONG` the robot expires from now, as in 90d, or never")
	c.RunE = do(func(ctx context.Context, args []string) error {
		now := time.Now().UTC().Truncate(time.Second)
		length, err := configs.ParseDuration(overlap)
		if err != nil {
			return usageError("token rotate: --overlap: " + err.Error() + "; write as in 24h, or 0")
		}
		var until time.Time
		if expires != "" {
			if until, err = expiry(expires, now); err != nil {
				return usageError("token rotate: --expires: " + err.Error())
			}
		}
		return a.tokenRotate(ctx, args[0], now, time.Duration(length), expires != "", until)
	})
	return c
}

func (a *app) tokenRotate(ctx context.Context, name string, now time.Time, overlap time.Duration, extend bool, expires time.Time) error {
	path, err := a.tokensFile()
	if err != nil {
		return err
	}
	secret, hash := auth.NewRobotSecret()
	var r auth.Robot
	made := tokenMade{Secret: secret}
	file, err := editRobots(ctx, path, func(data []byte, f *auth.RobotFile) ([]byte, error) {
		old := f.Find(name)
		if old == nil {
			return nil, noRobot(f, name)
		}
		r = *old
		if extend {
			r.Expires = expires
		}
		if !r.Expires.IsZero() && !now.Before(r.Expires) {
			return nil, fmt.Errorf("robot %s has expired on %s: rotate it with --expires 90d", r.Name, r.Expires.Format(clockUTC))
		}
		r.Secrets = []auth.RobotSecret{{Hash: hash}}
		for _, s := range old.Secrets {
			switch {
			case overlap == 0 || !s.Until.IsZero() && !now.Before(s.Until):
			case len(r.Secrets) == auth.MaxRobotSecrets || !s.Until.IsZero():
				return nil, fmt.Errorf("robot %s is being rotated: its secret %s is good until %s. Rotate it then, or with --overlap 0, which ends both", r.Name, s.Hash.ID(), latest(old.Secrets).Format(clockUTC))
			default:
				s.Until = now.Add(overlap)
				r.Secrets = append(r.Secrets, s)
				made.OldUntil = &s.Until
			}
		}
		return auth.SetRobot(path, data, r)
	})
	if err != nil {
		return err
	}
	made.Name, made.Expires = r.Login(), orNull(r.Expires)
	if err := a.printMade(made, &r); err != nil {
		return err
	}
	return a.awaitTaken(ctx, file)
}

// latest is when the last secret ends that was rotated out.
func latest(secrets []auth.RobotSecret) (until time.Time) {
	for _, s := range secrets {
		if s.Until.After(until) {
			until = s.Until
		}
	}
	return until
}
