//go:build !soak

package e2e

// How much of it a run on every change does; `make soak` does all.
const (
	reloadsUnderLoad = 10
	randomCuts       = 1000
	idleConnections  = 10_000
	idleByHTTP2      = 2_000
	abortedPulls     = 200
)
