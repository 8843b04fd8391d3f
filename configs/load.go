package configs

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/regward/regward/auth"
)

//go:embed default.yaml
var defaults []byte

//go:embed init.yaml
var starter []byte

//go:embed schema.json
var schema []byte

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
	return LoadWith(path, Options{Getenv: getenv})
}

// LoadWith is Load with Options; Dir is set from path unless given.
func LoadWith(path string, o Options) (*Config, error) {
	if o.Dir == "" {
		o.Dir = filepath.Dir(path)
	}
	data, err := readAny(path, maxBytes)
	if err != nil {
		return nil, Problems{{File: path, Msg: strings.TrimPrefix(err.Error(), path+": ")}}
	}
	c, err := Parse(path, data, o)
	if err != nil {
		return nil, err
	}
	c.origins.files = append([]string{path}, c.origins.files...)
	if info, err := os.Stat(path); err == nil && c.origins.secret && info.Mode()&0o044 != 0 {
		c.Warnings = append(c.Warnings, Problem{
			Severity: Warning, File: path,
			Msg: fmt.Sprintf("others may read this file (%v), and a secret is written in it", info.Mode().Perm()),
			Fix: "chmod 600 " + path,
		}).sort()
	}
	return c, nil
}

// Parse is LoadWith for YAML that is already in memory; file is what messages call it.
func Parse(file string, data []byte, o Options) (*Config, error) {
	c, err := withDefaults()
	if err != nil {
		return nil, err // a slip in default.yaml: a test would have met it
	}
	r := &reader{file: file, opts: o, src: c.origins, upstream: *c.Upstream}
	r.src.file = file
	c.Name, c.Upstream, c.Upstreams = file, nil, nil
	root := r.tree(data)
	if root == nil {
		return nil, r.problems.sort()
	}
	r.value("", root, reflect.ValueOf(c).Elem(), false, 0)
	k := &checker{reader: r, Config: c}
	k.complete()
	k.check()
	k.files()
	// Rules that cannot be read would make every promise and warning wrong.
	if len(r.problems.Only(Error)) == 0 {
		k.promises()
		if k.unknownRule() == "" {
			k.warn()
		}
		k.forgetUnknown()
	}
	r.problems = r.problems.sort()
	if len(r.problems.Only(Error)) > 0 {
		return nil, r.problems
	}
	c.Warnings = r.problems
	c.Version = c.version()
	return c, nil
}

// withDefaults is what an empty file means.
func withDefaults() (*Config, error) {
	c := &Config{origins: &source{values: map[string]origin{}}}
	r := &reader{file: "default.yaml", src: c.origins}
	root := r.tree(defaults)
	if root != nil {
		r.value("", root, reflect.ValueOf(c).Elem(), false, 0)
	}
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	if c.Upstream == nil {
		return nil, errors.New("default.yaml has no upstream")
	}
	clear(c.origins.values) // whatever is not in it later is a default
	return c, nil
}

// version hashes every effective value that instances of one registry are to
// agree on: what each has for itself and secrets are left out, and a file is
// its content, whatever it is called.
func (c *Config) version() string {
	h := sha256.New()
	for _, f := range c.Show() {
		value := f.Value
		if sum, read := c.origins.sums[f.Path]; read {
			value = sum
		}
		switch {
		case ownOfEach(f.Path), f.Path == "token.key_file" && c.Token.Create, f.Path == "auth.tokens_file" && c.Auth.OwnTokens:
			continue
		case (f.Path == "log.access" || f.Path == "log.audit") && value != "off":
			value = "on"
		}
		fmt.Fprintf(h, "%q %q\n", f.Path, value)
	}
	return hex.EncodeToString(h.Sum(nil)[:4])
}

// ownOfEach reports whether each instance may have a value of its own: where it
// listens, what only it shows or keeps, and how it reaches the Redis at which
// the instances meet.
func ownOfEach(path string) bool {
	switch path {
	case "tls.cert_file", "tls.key_file", "admin.token_file", "state_dir", "redis.addresses":
		return true
	}
	return path == "listen" || strings.HasSuffix(path, ".listen") || path == "tls.http_listen"
}

// Files are the names of all files that c rests on, its own first if it was
// loaded from one; to be watched, whether they exist or not.
func (c *Config) Files() []string { return slices.Clone(c.origins.files) }

// UserGroups is groups turned round: user name (lower-cased unless
// auth.case_sensitive) to the names of its groups, sorted.
func (c *Config) UserGroups() map[string][]string {
	out := map[string][]string{}
	for group, users := range c.Groups {
		for _, user := range users {
			user = c.fold(user)
			if !slices.Contains(out[user], group) {
				out[user] = append(out[user], group)
			}
		}
	}
	for _, groups := range out {
		slices.Sort(groups)
	}
	return out
}

// fold is how a user's name is compared.
func (c *Config) fold(user string) string {
	if c.Auth.CaseSensitive {
		return user
	}
	return strings.ToLower(user)
}

// foldAll is fold for the users among subjects.
func (c *Config) foldAll(subjects []auth.Subject) {
	for i, s := range subjects {
		if !c.Auth.CaseSensitive {
			subjects[i] = s.Lower()
		}
	}
}

// Starter is the commented file that `config init` writes.
func Starter() []byte { return slices.Clone(starter) }

// Schema is the JSON Schema of the file.
func Schema() []byte { return slices.Clone(schema) }

// Defaults is default.yaml: every field with its default and what it means.
func Defaults() []byte { return slices.Clone(defaults) }

// plainPathError leaves the system call out of an error: "F: permission denied".
func plainPathError(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return fmt.Errorf("%s: %w", p.Path, p.Err)
	}
	return err
}
