package proxy

import (
	"net/netip"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/ratelimit"
)

// Settings is everything a snapshot is made of: plain values and compiled
// parts, no file names. cmd/regward makes it from a configuration.
type Settings struct {
	Version   string   // short hash of the configuration, for records
	Hostnames []string // as written: lower case, IP literals bare (::1), a port only where the file has one
	Contact   string

	Policy        *auth.Policy
	Groups        map[string][]string // user name to its fixed groups, sorted
	CaseSensitive bool
	Logins        auth.Authenticator           // who checks passwords; nil: nobody can log in
	Current       func(id *auth.Identity) bool // whether what proved id still stands; nil with Logins nil
	Robots        *auth.Robots                 // robots; nil: none
	Renew         auth.Renewer                 // whose users get refresh tokens; nil: nobody's
	Certificates  *auth.Certificates           // whom clients' certificates speak for; nil: nobody
	Tokens        *auth.Tokens
	TokenTTL      time.Duration
	Cache         auth.CacheTimes
	Lease         time.Duration // uploads.lease

	Limits    []Limit // all of them: nothing is limited, failed logins neither, but by these
	PrefixV4  int     // limit_ip_prefix
	PrefixV6  int
	Proxies   []netip.Prefix // trusted_proxies
	Senders   []netip.Prefix // proxy_protocol.from: whose connections begin with a PROXY header
	OnlyProxy bool           // tls.mode: off beyond loopback: requests of these two alone

	PerNamespace bool // metrics.per_namespace

	Origins []string // of pages that may ask from a browser (cors.origins), as browsers send them

	Catalog bool   // false: 404
	Search  bool   // /v1/search (P19)
	CA      []byte // PEM of tls.mode: internal, for the page at /; nil otherwise

	Upstreams     []UpstreamSettings
	LoginUpstream string // name of the upstream that is asked about logins (auth.upstream); "" is none

	IdleTimeout time.Duration
}

// Count says what a limit counts.
type Count uint8

// What limits count.
const (
	Requests Count = iota + 1
	Pulls
	Pushes
	FailedLogins
	Bytes     // slows down, never refuses
	Transfers // blobs in flight at once
)

// Per says whose bucket a request falls into.
type Per uint8

// The buckets of a limit.
const (
	PerClient Per = iota + 1
	PerUser
	PerIP
	PerGroup
	PerNamespace
	PerRepository
	PerAll
	PerIPUser // failed_logins, built in: address and user name together
)

// Limit is one entry of `limits`.
type Limit struct {
	Name         string
	Count        Count
	Rate         ratelimit.Rate // of Bytes: bytes in a time; zero for Transfers
	Most         int            // at once, for Transfers; else 0
	Per          Per
	Subjects     []auth.Subject // none: everyone
	Repositories []auth.Pattern // none: all
	From         []netip.Prefix // none: any
	ExemptWho    []auth.Subject
	ExemptFrom   []netip.Prefix
	DryRun       bool
	Where        string

	allowed prometheus.Counter // of its snapshot
	waited  prometheus.Counter // seconds, for Bytes
}

// UpstreamSettings is one upstream registry.
type UpstreamSettings struct {
	Name           string
	Place          auth.Place
	URL            *url.URL // scheme, host and an optional path in front of /v2/
	Username       string
	Password       string // "" without Username
	Passthrough    bool   // the client's own login goes on; Username serves anonymous callers only
	SharedBlobs    *bool  // the upstream gives any layer under any image name; nil: not spelled out
	Follow         bool   // redirects: follow; false: pass
	RedirectHosts  []string
	TokenHosts     []string
	ReadOnly       string // text; "" is writable
	AssertUser     string // header name
	CA             []byte // PEM; nil: system
	ClientCert     []byte // PEM
	ClientKey      []byte
	ConnectTimeout time.Duration
	HeaderTimeout  time.Duration
	IdleTimeout    time.Duration
}
