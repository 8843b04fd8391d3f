// Command regward is an authenticating, rate-limiting, TLS-terminating proxy in
// front of container registries.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}
