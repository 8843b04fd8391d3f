package proxy

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the collectors of a Handler, with bounded labels: never a user
// or a repository.
type Metrics struct{}

// Register adds them to a registry of the caller's own.
func (m *Metrics) Register(r prometheus.Registerer) error { panic("unwritten") }
