// Package e2e holds the tests with real parts: registries that exist, clients
// that people use, and the built regward between them. It is a module of its
// own, so that what it needs stays out of regward's.
//
// scripts/install-test-tools installs the programs; then `go test ./...` here
// takes five minutes on two cores. The tests want root, for dockerd and podman,
// and talk to loopback only, or, where a test is about names and ports that are
// not its own to take, inside namespaces that it makes. They build regward with the race detector in it;
// REGWARD_RACE=0 leaves it out.
package e2e
