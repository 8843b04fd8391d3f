package proxy

import "time"

// What a stranger may make us work on or keep. Every number that bounds it
// stands here, and a test hits each one (security.md, K5).
const (
	maxPath      = 8 << 10 // bytes of the escaped path (H13)
	maxQuery     = 8 << 10 // bytes of the raw query (H13, P12)
	maxName      = 255     // bytes of a repository name (P02)
	maxTag       = 128     // bytes of a tag (P03)
	maxDigest    = 255     // bytes of a digest; sha512 needs 135
	maxUploadID  = 6 << 10 // bytes of an upload id (P04): a sealed upstream URL
	maxParam     = 255     // bytes of any other value in a query
	maxCursor    = 4 << 10 // bytes of a last of ours: the query of an upstream's next page, or of several, sealed
	maxRepeats   = 32      // values of a parameter that may come several times
	maxPage      = 1000    // entries of one page; more is cut to this (CVE-2023-2253)
	maxAuthority = 261     // bytes of host and port: 255 and ":65535"

	maxDescription = 200 // bytes of error_description (C11)

	maxChallengeFields = 8       // WWW-Authenticate fields of one upstream answer
	maxChallengeField  = 8 << 10 // bytes of one such field
	maxChallenges      = 16      // challenges in one upstream answer

	maxForwarded      = 32 // X-Forwarded-For entries looked at, from the right (H14)
	maxForwardedEntry = 64 // bytes of one entry
)

// What the handler itself bounds (security.md, K5).
const (
	maxManifest     = 4 << 20 // bytes of a manifest that is pushed (P26), and of an index that is looked into
	maxChildren     = 1000    // digests of one index that a pull makes free (L02)
	maxFreePulls    = 1 << 16 // digests remembered as free
	maxRefusals     = 10_000  // refusals remembered for explain
	maxChallenged   = 2_000   // requests without a credential remembered for explain
	maxLogged       = 256     // bytes of a client's own words in a log line
	maxTagLocks     = 4096    // immutable tags being pushed at once
	maxForm         = 64 << 10
	maxFormFields   = 256
	maxDrain        = 4 << 20 // bytes taken from a client that was refused while sending (S12)
	maxCatalogPages = 20      // upstream pages read for one page of a client's
	maxCatalogBody  = 4 << 20
	maxTagsBody     = 8 << 20 // bytes of a list of tags that is given another name (R14)
	maxErrorBody    = 8 << 10 // bytes of an upstream's refusal that is given other names (R23); oras reads no more
	maxPlaces       = 1 << 16 // upstreams that a cursor can speak of
	maxLinks        = 32      // links looked at in one answer (R15)
	maxFound        = 100     // results of one search (P19)
	defaultFound    = 25
	defaultPage     = 100

	drainTime = 3 * time.Second
	formTime  = 15 * time.Second
	freeTime  = 10 * time.Minute // L02

	tagPatience = 20 * time.Second // for other pushes of an immutable tag, and for the upstream to say where it is
)
