package trust

import "crypto/x509"

// Level is how much a finding matters.
type Level string

// The levels of findings, the harmless ones first.
const (
	OK      Level = "ok"
	Note    Level = "note"
	Warning Level = "warning"
	Problem Level = "problem"
)

// Finding is one thing that a look at this host's trust stores brought up.
type Finding struct {
	Client string // docker, containerd, podman or system
	Level  Level
	What   string // one sentence, without a full stop
	Why    string // what comes of it; empty for OK
	Fix    string // what to type or change; empty for OK
}

// Look reads under root ("/" for the machine itself) where docker, containerd,
// podman and the system keep the CAs they trust, and reports what each of them
// would make of chain, the certificates that host (HOST[:PORT], as in an image's
// name) shows, leaf first. Clients that are not installed and have no folder are
// left out. Without a chain only what is wrong with the folders themselves is
// reported. It changes nothing and reads a bounded amount of everything.
func Look(root, host string, chain []*x509.Certificate) []Finding {
	return nil
}
