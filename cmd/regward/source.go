package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/regward/regward/configs"
)

// maxConfig is far more than any configuration, and bounds what is read.
const maxConfig = 16 << 20

// configSource is where the configuration comes from: a file, or, with an
// empty path, the text of REGWARD_CONFIG_YAML.
type configSource struct {
	path   string
	text   string
	getenv func(string) string
}

// source finds the configuration: name if given, else --config, else
// REGWARD_CONFIG, else REGWARD_CONFIG_YAML, else the usual places.
func (a *app) source(name string) (configSource, error) {
	s := configSource{getenv: a.getenv}
	for _, s.path = range []string{name, a.configFile, a.getenv("REGWARD_CONFIG")} {
		if s.path != "" {
			return s, nil
		}
	}
	if s.text = a.getenv("REGWARD_CONFIG_YAML"); s.text != "" {
		return s, nil
	}
	usual := []string{"regward.yaml", "/etc/regward/regward.yaml"}
	for _, s.path = range usual {
		if _, err := os.Stat(s.path); !errors.Is(err, fs.ErrNotExist) {
			return s, nil
		}
	}
	return s, fmt.Errorf("no configuration: neither ./%s nor %s is there; name one with --config, or start with `regward config init`", usual[0], usual[1])
}

// name is what messages call the configuration.
func (s configSource) name() string {
	if s.path == "" {
		return "REGWARD_CONFIG_YAML"
	}
	return s.path
}

// read is the raw text, nothing expanded in it.
func (s configSource) read() ([]byte, error) {
	if s.path == "" {
		return []byte(s.text), nil
	}
	return readBounded(s.path)
}

// options are how the text is to be understood.
func (s configSource) options(static bool) configs.Options {
	o := configs.Options{Getenv: s.getenv, Static: static}
	if s.path != "" {
		o.Dir = s.folder()
	}
	return o
}

// goodFrom begins STATE/last-good.yaml: it says from which folder relative
// file names in it start, since that is not where it lies itself.
const goodFrom = "# The last configuration that worked. File names in it start from "

// folder is where relative file names start: the configuration's own, but for
// a copy that says otherwise.
func (s configSource) folder() string {
	dir := filepath.Dir(s.path)
	if s.path == "" {
		dir = "."
	}
	if filepath.Base(s.path) == lastGood {
		text, _ := s.read()
		first, _, _ := strings.Cut(string(text), "\n")
		if named, ok := strings.CutPrefix(first, goodFrom); ok {
			return named
		}
	}
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

// inFolder is a file that the configuration names.
func (s configSource) inFolder(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(s.folder(), name)
}

// parse checks text that read returned.
func (s configSource) parse(text []byte, static bool) (*configs.Config, error) {
	return configs.Parse(s.name(), text, s.options(static))
}

// load reads and checks the configuration, and looks at the file's mode too.
func (s configSource) load(static bool) (*configs.Config, error) {
	if s.path == "" {
		return s.parse([]byte(s.text), static)
	}
	return configs.LoadWith(s.path, s.options(static))
}

// files are all files that cfg rests on, its own among them.
func (s configSource) files(cfg *configs.Config) []string {
	files := cfg.Files()
	if s.path != "" && !slices.Contains(files, s.path) {
		files = append(files, s.path)
	}
	return files
}

// readBounded reads a file of at most maxConfig bytes.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxConfig {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxConfig)
	}
	return data, nil
}
