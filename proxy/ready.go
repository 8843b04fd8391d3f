package proxy

import "context"

// ProbeUpstream asks the upstream whether it is there and takes the account,
// over the connections and with the tokens that requests use.
func (s *Snapshot) ProbeUpstream(ctx context.Context) (Probe, error) { return s.upstream.Probe(ctx) }
