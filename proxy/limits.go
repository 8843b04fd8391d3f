package proxy

import "github.com/regward/regward/auth"

type freePulls struct{}
type refusals struct{}
type requestIDs struct{}

// LimitsFor lists the limits that would count an access of c, for explain.
func (s *Settings) LimitsFor(c *auth.Caller, a auth.Access) []Limit { panic("unwritten") }
