package configs

import "errors"

// Options change how a configuration is read.
type Options struct {
	// Getenv looks up environment variables; nil is an empty environment.
	Getenv func(string) string
	// Static reads nothing but the YAML: absent variables and all files are
	// left alone, and each becomes a Note.
	Static bool
	// Dir is the folder that relative file names start from; "" is the working
	// folder. Load sets it to the folder of the configuration file.
	Dir string
}

// Load reads and checks the file at path over the embedded defaults. The error
// is Problems if the configuration is at fault, all of them, sorted, with the
// warnings among them.
func Load(path string, getenv func(string) string) (*Config, error) {
	return nil, errors.New("not there yet")
}

// LoadWith is Load with Options; Dir is set from path unless given.
func LoadWith(path string, o Options) (*Config, error) { return nil, errors.New("not there yet") }

// Parse is LoadWith for YAML that is already in memory; file is what messages call it.
func Parse(file string, data []byte, o Options) (*Config, error) {
	return nil, errors.New("not there yet")
}

// Diff says in words what a change from one configuration to the other gives
// and takes: "anonymous gains pull on coolteam/**". Secrets are never shown.
func Diff(from, to *Config) []string { return nil }

// NeedRestart names the keys that changed and that only a restart applies.
func NeedRestart(from, to *Config) []string { return nil }

// Files are the names of all files that c rests on, its own first; to be
// watched, whether they exist or not.
func (c *Config) Files() []string { return nil }

// UserGroups is groups turned round: user name (lower-cased unless
// auth.case_sensitive) to the names of its groups, sorted.
func (c *Config) UserGroups() map[string][]string { return nil }

// Field is one effective value, as `config show` prints it.
type Field struct {
	Path   string `json:"path"`   // "tls.mode", "limits[0].rate"
	Value  string `json:"value"`  // secrets as ***
	Origin string `json:"origin"` // "default", "regward.yaml:12", "environment NAME", "file NAME"
}

// Show lists every effective value, in the order of the schema.
func (c *Config) Show() []Field { return nil }

// Starter is the commented file that `config init` writes.
func Starter() []byte { return nil }

// Schema is the JSON Schema of the file.
func Schema() []byte { return nil }

type source struct{}
