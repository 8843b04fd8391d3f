package proxy

import "time"

// What the handler itself bounds (security.md, K5).
const (
	maxManifest     = 4 << 20 // bytes of a manifest that is pushed (P26), and of an index that is looked into
	maxChildren     = 1000    // digests of one index that a pull makes free (L02)
	maxFreePulls    = 1 << 16 // digests remembered as free
	maxRefusals     = 10_000  // refusals remembered for explain
	maxChallenged   = 2_000   // requests without a credential remembered for explain
	maxLogged       = 256     // bytes of a client's own words in a log line
	maxForm         = 64 << 10
	maxFormFields   = 256
	maxDrain        = 4 << 20 // bytes taken from a client that was refused while sending (S12)
	maxCatalogPages = 20      // upstream pages read for one page of a client's
	maxCatalogBody  = 4 << 20
	defaultPage     = 100

	drainTime = 3 * time.Second
	formTime  = 15 * time.Second
	freeTime  = 10 * time.Minute // L02
)
