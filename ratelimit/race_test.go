//go:build race

package ratelimit_test

// underRace is a build that looks at every access to memory: what is to be seen
// of a million is seen of fewer there.
const underRace = true
