package auth

import "time"

// What strangers may make this package hold, read or wait for (K5). Each bound
// has a test that meets it.
const (
	MaxScopes     = 64  // scopes in one scope string (T30)
	MaxScopeName  = 512 // bytes of a scope's resource name; a repository's own bound is MaxRepository
	MaxRepository = 255 // bytes of a repository name (P02)
	MaxPattern    = 512 // bytes of a repository pattern
	MaxTag        = 128 // bytes of a tag, and of a pattern of tags
	MaxUser       = 256 // bytes of a user name
	MaxPassword   = 4096
	MaxToken      = 8 << 10   // bytes of any token read
	MaxIssued     = 4<<10 - 1 // of one we issue; with a credential sealed in: MaxToken
	MaxKeyFile    = 64 << 10  // bytes of a token key file
	MaxKeys       = 16        // keys in it
	MaxHtpasswd   = 16 << 20  // bytes of an htpasswd file
	MaxLineErrors = 100       // reported of one file

	MaxTokensFile   = 4 << 20 // bytes of a file of robots
	MaxRobots       = 10_000  // in it
	MaxRobotName    = 63      // letters of a robot's name
	MaxRobotSecrets = 2       // of a robot: the old one and the new

	MaxGroupsShown = 8 // groups named in a sentence

	MaxClientCAs  = 256      // certificates of CAs that clients' ones are believed by: their names go into every handshake
	MaxShown      = 10       // certificates that a client may show, its own and those of CAs in between
	MaxShownBytes = 16 << 10 // of those certificates: a chain of four has 8, and what is parsed of them is held with the connection, up to 40 times as much
	MaxShownNames = 100      // names in them
	MaxCRL        = 16 << 20 // bytes of revocation lists: some 400,000 certificates
	MaxListsOfCRL = 64

	MaxGroupName   = 256      // bytes of the name of a group that a provider gives
	MaxGroupBytes  = 16 << 10 // of all that it gives one user
	MaxTokenGroups = 1 << 10  // of those in a token; of more than these, only those that rules and limits name

	MaxClaims     = 8         // that the user template of an issuer names
	MaxJSONDepth  = 32        // of a token's claims, of a webhook's answer
	MaxDiscovery  = 64 << 10  // bytes of an issuer's discovery document
	MaxKeySet     = 256 << 10 // bytes of an issuer's keys
	MaxKeyWaiters = 256       // logins that wait for keys of one issuer, or for newer ones
	MaxAnswer     = 64 << 10  // bytes of a webhook's answer

	MaxBcryptCost     = 15        // 1.5 to 3 s a check
	MaxBcryptPassword = 72        // bytes; bcrypt ignores what follows
	MaxArgon2Memory   = 256 << 10 // KiB
	MaxArgon2Time     = 10
	MaxArgon2Threads  = 8

	MaxLoginQueue     = 256              // checks of passwords waiting for a slot, of each kind
	MaxRemoteLogins   = 16               // checks under way whose provider waits for the network
	MaxRemoteTime     = 14 * time.Second // for a login that such a provider may be asked about: clients give up after 15 s (T29)
	MaxLoginFollowers = 4096             // requests waiting for a check that another one began
	MaxLoginWait      = 10 * time.Second // for a slot
	MaxLoginTime      = 30 * time.Second // for the check, the wait for a slot included
	MaxBadTokens      = 1024             // remembered tokens with a wrong signature
	GoodBefore        = 24 * time.Hour   // how long a proven login is spared the failed-login limits
	TokenLeeway       = time.Minute      // that another instance's clock may be ahead
	MaxRevoked        = 10_000           // users with a revocation in force
	RevokedGrace      = 15 * time.Minute // after which an instance that knows no revocation of a user may prove it anew
)
