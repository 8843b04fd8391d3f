package proxy

import (
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/ratelimit"
)

// Options are the parts of a Handler that belong to the process and outlive
// every reload.
type Options struct {
	Limiter ratelimit.Limiter
	Cache   *auth.Cache
	Log     *zap.Logger // the process's own log
	Access  *zap.Logger // one line per request; nil is off
	Audit   *Audit      // nil is off
	Now     func() time.Time
}

// Handler is the gate.
type Handler struct {
	Options
	snapshot atomic.Pointer[Snapshot]
	metrics  *Metrics
	refusals *refusals
	free     *freePulls
	ids      requestIDs
}

// New makes a handler. It answers 503 until the first Swap.
func New(o Options) *Handler { panic("unwritten") }

// Prepare builds a whole snapshot, or fails and changes nothing. Connections
// and tokens of an upstream whose settings did not change are kept.
func (h *Handler) Prepare(s Settings) (*Snapshot, error) { panic("unwritten") }

// Swap makes s decide from now on and returns the one that did. Requests under
// way keep theirs.
func (h *Handler) Swap(s *Snapshot) (old *Snapshot) { return h.snapshot.Swap(s) }

// Current is the snapshot in force, nil before the first Swap.
func (h *Handler) Current() *Snapshot { return h.snapshot.Load() }

// Metrics are the collectors of the handler, to be registered once.
func (h *Handler) Metrics() *Metrics { return h.metrics }

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { panic("unwritten") }

// Snapshot is what decides: immutable, made by Prepare, replaced whole.
type Snapshot struct {
	Settings
}

// UpstreamState is what /readyz tells about the upstream: "" if all is well.
func (s *Snapshot) UpstreamState() string { panic("unwritten") }
