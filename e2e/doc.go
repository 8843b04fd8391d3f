// Package e2e holds the tests with real parts: registries that exist, clients
// that people use, and the built regward between them. It is a module of its
// own, so that what it needs stays out of regward's.
//
// scripts/install-test-tools installs the programs. The tests want root, for
// dockerd and podman, and talk to loopback only.
package e2e
