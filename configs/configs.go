// Package configs answers one question: what was asked for?
//
// It reads one YAML file over the embedded defaults, checks it as a whole, and
// reports everything that is wrong with it in one run. It opens the files that
// the configuration names and nothing else: no socket, no log, no global state.
package configs

import (
	"net/netip"
	"net/url"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/ratelimit"
)

// Config is a configuration that was read, checked and completed with the
// defaults. File names in it are absolute or as the process sees them. It is
// not changed after Load.
type Config struct {
	Name     string   `yaml:"-"` // of the file, as messages show it
	Version  string   `yaml:"-"` // eight hex digits of a hash of what it asks for; see version
	Warnings Problems `yaml:"-"` // warnings and notes; errors never get this far

	Hostname  []string   `yaml:"hostname"` // names, IP addresses (IPv6 bare), with a port where the file has one: name:port, [::1]:8443
	Contact   string     `yaml:"contact"`
	Listen    []string   `yaml:"listen"` // host:port, unix:/path or systemd:NAME
	TLS       TLS        `yaml:"tls"`
	Upstream  *Upstream  `yaml:"upstream"`  // as the key of that name; read Upstreams instead
	Upstreams []Upstream `yaml:"upstreams"` // at least one, whichever of the two keys was written

	IdleTimeout Duration            `yaml:"idle_timeout"`
	Auth        Auth                `yaml:"auth"`
	Groups      map[string][]string `yaml:"groups"` // group to users, as written; see UserGroups
	Rules       []Rule              `yaml:"rules"`  // see PolicyRules
	Tests       []Test              `yaml:"tests"`
	Uploads     Uploads             `yaml:"uploads"`
	Limits      []Limit             `yaml:"limits"` // with the built in ones for failed logins, unless the file replaces them

	LimitIPPrefix  IPPrefix       `yaml:"limit_ip_prefix"`
	Cache          Cache          `yaml:"cache"`
	Token          Token          `yaml:"token"`
	Catalog        string         `yaml:"catalog"` // "filtered" or "off"
	Search         bool           `yaml:"search"`  // /v1/search, from the catalog
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`
	ProxyProtocol  ProxyProtocol  `yaml:"proxy_protocol"`
	CORS           CORS           `yaml:"cors"`
	Redis          Redis          `yaml:"redis"`

	Log             Log      `yaml:"log"`
	Health          Health   `yaml:"health"`
	Admin           Admin    `yaml:"admin"`
	Metrics         Metrics  `yaml:"metrics"`
	StateDir        string   `yaml:"state_dir" is:"file"`
	ShutdownDelay   Duration `yaml:"shutdown_delay"`
	ShutdownTimeout Duration `yaml:"shutdown_timeout"`

	origins *source         // where each value came from
	places  *auth.Places    // of Upstreams; nil while they contradict each other
	bound   map[string]bool // hostnames that have upstreams of their own
}

// Upstream is one registry behind regward. Username and Password go together;
// so do ClientCertFile and ClientKeyFile.
type Upstream struct {
	Name             string   `yaml:"name"`              // unique; the prefix or the host of the URL unless set
	Prefix           string   `yaml:"prefix"`            // "hub/", with its slash; "" holds the rest
	KeepPrefix       bool     `yaml:"keep_prefix"`       // the upstream's own names begin with Prefix too
	DefaultNamespace string   `yaml:"default_namespace"` // put before one-part names, without slash
	Hostname         string   `yaml:"hostname"`          // one of Config.Hostname, without port; "" is all
	NS               []string `yaml:"ns"`                // registries that ns= may name, lower case (M01)
	URL              *url.URL `yaml:"url"`               // http or https, without user, query and trailing slash
	Credentials      string   `yaml:"credentials"`       // CredentialsNone, CredentialsAccount or CredentialsPassthrough
	Username         string   `yaml:"username"`
	Password         Secret   `yaml:"password"`
	Redirects        string   `yaml:"redirects"` // "follow" or "pass"
	RedirectHosts    []string `yaml:"redirect_hosts"`
	SharedBlobs      *bool    `yaml:"shared_blobs"` // nil: not spelled out
	ReadOnly         string   `yaml:"read_only"`
	AssertUser       string   `yaml:"assert_user"`
	TokenHosts       []string `yaml:"token_hosts"`
	CAFile           string   `yaml:"ca_file" is:"file"`
	ClientCertFile   string   `yaml:"client_cert_file" is:"file"`
	ClientKeyFile    string   `yaml:"client_key_file" is:"file"`
	ConnectTimeout   Duration `yaml:"connect_timeout"`
	HeaderTimeout    Duration `yaml:"header_timeout"`

	CA         []byte      `yaml:"-"` // content of CAFile, PEM
	ClientCert []byte      `yaml:"-"` // content of ClientCertFile, PEM
	ClientKey  SecretBytes `yaml:"-"` // content of ClientKeyFile, PEM
}

// The values of credentials.
const (
	CredentialsNone        = "none"
	CredentialsAccount     = "account"
	CredentialsPassthrough = "passthrough"
)

// Follow reports whether redirects of blobs are followed rather than passed on.
func (u *Upstream) Follow() bool { return u.Redirects != "pass" }

// Passthrough reports whether people's own logins go on to the upstream.
func (u *Upstream) Passthrough() bool { return u.Credentials == CredentialsPassthrough }

// Auth says who may log in.
type Auth struct {
	Htpasswd        string `yaml:"htpasswd" is:"file"` // file name; "" is no file
	AllowWeakHashes bool   `yaml:"allow_weak_hashes"`
	CaseSensitive   bool   `yaml:"case_sensitive"`
	Upstream        string `yaml:"upstream"` // name of the upstream that is asked about logins; "" is none

	LDAP       LDAP    `yaml:"ldap"`
	OIDC       []OIDC  `yaml:"oidc"`
	Webhook    Webhook `yaml:"webhook"`
	TokensFile string  `yaml:"tokens_file" is:"file"` // robots; state_dir/tokens.yaml unless set

	HtpasswdData SecretBytes `yaml:"-"` // content of Htpasswd; it was parsed once without complaint
	OwnTokens    bool        `yaml:"-"` // tokens_file was not set: it may not be there yet

	Robots       *auth.RobotFile `yaml:"-"` // of TokensFile; nil where there is none, or it was not read
	RobotsUnread error           `yaml:"-"` // why it could not be read by who validates; nobody may serve so
}

// Rule is one entry of rules. One of Allow and Deny is not empty.
type Rule struct {
	Subjects     []auth.Subject    `yaml:"subjects"`
	Repositories []auth.Pattern    `yaml:"repositories"`
	Allow        auth.Actions      `yaml:"allow"`
	Deny         auth.Actions      `yaml:"deny"`
	From         []netip.Prefix    `yaml:"from"`
	Tags         []auth.TagPattern `yaml:"tags"` // none: any, as auth.Rule has it
	Immutable    bool              `yaml:"immutable"`
	DryRun       bool              `yaml:"dry_run"` // as auth.Rule has it

	Where string `yaml:"-"` // "rules[1] at regward.yaml:12"
}

// Test is one promise about the rules. One of May and MayNot is set.
type Test struct {
	As         string      `yaml:"as"`
	Groups     []string    `yaml:"groups"`
	From       netip.Addr  `yaml:"from"`
	May        auth.Action `yaml:"may"`
	MayNot     auth.Action `yaml:"may_not"`
	Repository string      `yaml:"repository"`

	Where string `yaml:"-"`
}

// Uploads bounds how long an upload may outlive its token.
type Uploads struct {
	Lease Duration `yaml:"lease"` // 0 is off
}

// Limit is one entry of limits, or a built in one.
type Limit struct {
	Name         string         `yaml:"name"`
	Count        Count          `yaml:"count"`
	RateText     Amount         `yaml:"rate"`
	BurstText    Amount         `yaml:"burst"`
	Per          Per            `yaml:"per"`
	Subjects     []auth.Subject `yaml:"subjects"`     // none: everyone
	Repositories []auth.Pattern `yaml:"repositories"` // none: all
	From         []netip.Prefix `yaml:"from"`         // none: any
	Exempt       Exempt         `yaml:"exempt"`
	DryRun       bool           `yaml:"dry_run"`

	Rate  ratelimit.Rate `yaml:"-"` // bytes in a time for CountBytes; zero for CountTransfers
	Most  int            `yaml:"-"` // at once, for CountTransfers; else 0
	Where string         `yaml:"-"` // "limits[0] at regward.yaml:31", or "built in"
}

// Count is what a limit counts.
type Count string

// The counts.
const (
	CountPulls        Count = "pulls"
	CountPushes       Count = "pushes"
	CountRequests     Count = "requests"
	CountBytes        Count = "bytes"     // sent and received; slows down, never refuses
	CountTransfers    Count = "transfers" // blobs in flight at once
	CountFailedLogins Count = "failed_logins"
)

// Amount is a rate or a burst as the file has it, in the shortest way to write
// it: what it may be depends on what is counted.
type Amount string

// Per is whose bucket a limit takes from.
type Per string

// The buckets. PerIPUser is the built in limit's and cannot be written.
const (
	PerClient     Per = "client"
	PerUser       Per = "user"
	PerIP         Per = "ip"
	PerGroup      Per = "group"
	PerNamespace  Per = "namespace"
	PerRepository Per = "repository"
	PerAll        Per = "all"
	PerIPUser     Per = "ip and user"
)

// Exempt is whom a limit spares: subjects and networks, mixed in the file.
type Exempt struct {
	Subjects []auth.Subject
	Networks []netip.Prefix
}

// IPPrefix is how much of an address is one client.
type IPPrefix struct {
	V4 int `yaml:"v4"`
	V6 int `yaml:"v6"`
}

// Cache bounds how long logins are believed.
type Cache struct {
	Size        int      `yaml:"size"`
	TTL         Duration `yaml:"ttl"`
	NegativeTTL Duration `yaml:"negative_ttl"`
	Stale       Duration `yaml:"stale"`
}

// Token shapes the bearer tokens that regward signs.
type Token struct {
	TTL     Duration `yaml:"ttl"`
	KeyFile string   `yaml:"key_file" is:"file"` // state_dir/token.pem unless set
	Refresh bool     `yaml:"refresh"`            // refresh tokens (T22)

	Create bool `yaml:"-"` // key_file was not set: the key is made on first start
}

// Log says what is written where. Access and Audit are "off", "stdout" or a file.
type Log struct {
	Format      string   `yaml:"format"` // "json", "console", or "": console on a terminal
	Level       string   `yaml:"level"`
	Access      string   `yaml:"access"`
	Audit       string   `yaml:"audit"`
	AuditEvents []string `yaml:"audit_events"` // none: all
}

// Health is where probes ask; no Listen is off.
type Health struct {
	Listen []string `yaml:"listen"`
}

// Admin is where operators ask; no Listen is off.
type Admin struct {
	Listen    []string `yaml:"listen"`
	TokenFile string   `yaml:"token_file" is:"file"`
	Pprof     bool     `yaml:"pprof"`
}

// Metrics shapes what /metrics tells.
type Metrics struct {
	PerNamespace bool `yaml:"per_namespace"` // the namespace as a label
}

// PolicyRules are the rules as auth.NewPolicy takes them, and behind them what
// robots were given.
func (c *Config) PolicyRules() []auth.Rule {
	rules := make([]auth.Rule, 0, len(c.Rules))
	for _, r := range c.Rules {
		rules = append(rules, auth.Rule{
			Subjects: r.Subjects, Repositories: r.Repositories,
			Allow: r.Allow, Deny: r.Deny, From: r.From, Tags: r.Tags, Immutable: r.Immutable, DryRun: r.DryRun, Where: r.Where,
		})
	}
	return append(rules, c.Auth.Robots.Rules()...)
}
