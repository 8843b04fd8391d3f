package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
	"github.com/regward/regward/proxy"
)

// lastGood is the name, in state_dir, of the last configuration that worked.
const lastGood = "last-good.yaml"

// outcome tells what a reload did. It is the answer of POST /api/v1/reload.
type outcome struct {
	OK       bool             `json:"ok"`
	Version  string           `json:"version"`            // of the configuration now in force
	Changes  []string         `json:"changes"`            // in words
	Restart  []string         `json:"restart,omitempty"`  // keys that changed and wait for a restart
	Last     *change          `json:"last,omitempty"`     // where nothing changed: what did last, as files are also loaded by themselves
	Others   string           `json:"others,omitempty"`   // whether the other instances were asked to load theirs, in words
	Warnings configs.Problems `json:"warnings,omitempty"` // of the configuration that was loaded
	Problems configs.Problems `json:"problems,omitempty"` // why it was not
	Error    string           `json:"error,omitempty"`    // why it was not, if not for the configuration itself

	err error
}

// change is a load that changed something.
type change struct {
	At      time.Time `json:"at"`
	Trigger string    `json:"trigger"`
	Changes []string  `json:"changes"`
}

// candidate is a whole configuration, ready to be put in force.
type candidate struct {
	cfg      *configs.Config
	snapshot *proxy.Snapshot
	cert     *certificate
	logs     *logSet
	live     *live
	text     []byte
	hashes   fileHashes
}

// load reads the configuration and puts it in force, or changes nothing. One
// load runs at a time. trigger says what asked for it, and by who did, "" where
// nobody is known.
func (s *server) load(trigger, by string) outcome {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	old := s.live.Load()
	if old != nil {
		s.tellReloading()
	}
	next, err := s.prepare()
	if err != nil {
		if old != nil {
			// Not to be tried again and again: only after the next change.
			s.watcher.note(hashFiles(s.src.files(old.cfg)))
			s.log.Error("configuration not loaded; the one in force stays", zap.String("trigger", trigger))
		}
		if old != nil {
			s.tellReady("; the last change of it was not loaded, the log says why")
		}
		return s.loadFailed(err, old)
	}
	if old != nil {
		defer s.tellReady("")
	}
	return s.commit(next, old, trigger, by)
}

// prepare does all that can fail.
func (s *server) prepare() (*candidate, error) {
	text, err := s.src.read()
	if err != nil {
		return nil, err
	}
	// Twice: the first time to learn which files it names, so that their
	// hashes are older than what is loaded and no change falls in between.
	cfg, err := s.src.parse(text, false)
	if err != nil {
		return nil, err
	}
	hashes := hashFiles(s.src.files(cfg))
	if s.src.path != "" {
		hashes[s.src.path] = sha256.Sum256(text)
	}
	if cfg, err = s.src.load(false); err != nil {
		return nil, err
	}
	if (cfg.TLS.Mode == configs.TLSOff) != (s.first.TLS.Mode == configs.TLSOff) {
		return nil, errors.New("tls.mode: off cannot be switched on or off while running: restart")
	}
	next := &candidate{cfg: cfg, text: text, hashes: hashes}
	next.live = &live{cfg: cfg, at: s.now()}
	if next.live.tokens, err = s.loadTokens(cfg); err != nil {
		return nil, err
	}
	if next.live.admin, err = readAdminToken(cfg.Admin.TokenFile); err != nil {
		return nil, err
	}
	cert, refresh, err := s.certs.prepare(cfg, s.first.StateDir, s.acmeSource(cfg, next.live.tokens))
	if err != nil {
		return nil, err
	}
	next.cert = cert
	var before *logins
	if old := s.live.Load(); old != nil {
		before = old.people
	}
	if next.live.people, err = buildLogins(cfg, next.live.tokens, before); err != nil {
		return nil, err
	}
	settings, err := buildWith(cfg, next.live.tokens, cert.ca(), next.live.people)
	if err != nil {
		return nil, err
	}
	if err := cfg.Auth.RobotsUnread; err != nil {
		return nil, fmt.Errorf("auth.tokens_file: %w: regward serve must be able to read it", err)
	}
	if settings.Robots != nil {
		settings.Robots = buildRobots(cfg, next.live.tokens, s.robots.uses, s.now)
	}
	// The listeners are those of the start, whatever the file says now.
	settings.OnlyProxy = settings.OnlyProxy || cfg.TLS.Mode == configs.TLSOff && !allLoopback(s.first.Listen)
	if next.snapshot, err = s.handler.Prepare(settings); err != nil {
		return nil, err
	}
	if next.logs, err = s.logs.open(cfg.Log); err != nil {
		return nil, err
	}
	if err := refresh(); err != nil {
		next.logs.close()
		return nil, fmt.Errorf("tls: %w", err)
	}
	return next, nil
}

// commit cannot fail. The snapshot is one pointer, so nothing is half-applied.
func (s *server) commit(next *candidate, old *live, trigger, by string) outcome {
	s.logs.use(next.logs)
	s.certs.use(next.cert, s.log)
	s.handler.Swap(next.snapshot)
	s.live.Store(next.live)
	s.cache.Resize(next.cfg.Cache.Size)
	s.watcher.set(s.src.files(next.cfg), next.hashes)
	s.metrics.loaded(true, s.now())
	if err := writeLastGood(s.first.StateDir, s.src.folder(), next.text); err != nil {
		s.log.Warn("last configuration that worked not kept", zap.Error(err))
	}
	o := outcome{OK: true, Version: next.cfg.Version, Changes: []string{}, Warnings: next.cfg.Warnings}
	for _, p := range next.cfg.Warnings {
		s.log.Warn(oneLine(p))
	}
	s.warnCertificate()
	s.warnClientCerts()
	s.warnRobots()
	if old == nil {
		return o
	}
	o.Changes = append(o.Changes, configs.Diff(old.cfg, next.cfg)...)
	next.live.last = &change{At: next.live.at, Trigger: trigger, Changes: o.Changes}
	if len(o.Changes) == 0 {
		next.live.last = old.last
		o.Last = old.last
	}
	o.Restart = configs.NeedRestart(s.first, next.cfg)
	for _, key := range o.Restart {
		s.log.Warn(key + " changed; only a restart applies it")
	}
	s.log.Info("configuration loaded", zap.String("trigger", trigger), byWhom(by), zap.String("config", o.Version), zap.Strings("changes", o.Changes))
	s.auditReload(trigger, by, o)
	if f := s.shared.fleet.Load(); f != nil {
		f.Look() // which also tells the others' status what is loaded now
	}
	return o
}

// loadFailed reports every problem, once.
func (s *server) loadFailed(err error, old *live) outcome {
	o := outcome{Changes: []string{}, err: err}
	if !errors.As(err, &o.Problems) {
		o.Error = err.Error()
	}
	if old == nil {
		return o // a failed start: whoever started us prints it
	}
	o.Version = old.cfg.Version
	s.metrics.loaded(false, s.now())
	for _, p := range o.Problems {
		s.log.Error(oneLine(p))
	}
	if o.Error != "" {
		s.log.Error(o.Error)
	}
	return o
}

// reloadCertificate is all that a change of the pair's files alone asks for.
func (s *server) reloadCertificate() {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	if err := s.certs.reload(); err != nil {
		s.log.Error(err.Error())
		return
	}
	s.log.Info("certificate reloaded", zap.Any("expires", s.certs.expiry()))
	s.warnCertificate()
}

// loadTokens reads the signing keys. The object in use is kept while the keys
// are the same, and with it the tokens it has verified.
func (s *server) loadTokens(cfg *configs.Config) (*auth.Tokens, error) {
	path := cfg.Token.KeyFile
	if cfg.Token.Create {
		path = filepath.Join(s.first.StateDir, "token.pem") // state_dir changes by a restart only
	}
	tokens, err := auth.LoadTokens(path, cfg.Token.Create)
	if err != nil {
		return nil, fmt.Errorf("token.key_file: %w", err)
	}
	if old := s.live.Load(); old != nil && slices.Equal(old.tokens.Derive("same keys"), tokens.Derive("same keys")) {
		return old.tokens, nil
	}
	return tokens, nil
}

// readAdminToken is the content of admin.token_file; an empty one would let
// everybody in.
func readAdminToken(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	data, err := readBounded(file)
	if err != nil {
		return "", fmt.Errorf("admin.token_file: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("admin.token_file: %s is empty", file)
	}
	return token, nil
}

// writeLastGood keeps the text as it was read, nothing expanded, and the folder
// that file names in it start from. A crash leaves the old file or the new one.
func writeLastGood(dir, from string, text []byte) error {
	f, err := os.CreateTemp(dir, lastGood+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once renamed
	if !bytes.HasPrefix(text, []byte(goodFrom)) {
		text = slices.Concat([]byte(goodFrom+from+"\n"), text)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, lastGood)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// oneLine is a problem for a log.
func oneLine(p configs.Problem) string {
	return strings.ReplaceAll(p.String(), "\n\t", "; ")
}

// places are the few values that a client of the running instance needs. They
// are glanced at even in a file that has errors: the instance may be well.
type places struct {
	StateDir  string
	Admin     []string
	Health    []string
	TokenFile string
}

// glance reads places out of text, taking defaults for what it cannot read.
func glance(text []byte) places {
	var file struct {
		StateDir string `yaml:"state_dir"`
		Admin    struct {
			Listen    yaml.Node `yaml:"listen"`
			TokenFile string    `yaml:"token_file"`
		} `yaml:"admin"`
		Health struct {
			Listen yaml.Node `yaml:"listen"`
		} `yaml:"health"`
	}
	_ = yaml.Unmarshal(text, &file) // what it could read is there in spite of errors
	list := func(n yaml.Node, byDefault string) []string {
		var many []string
		var one string
		switch {
		case n.Decode(&many) == nil && len(many) > 0:
			return many
		case n.Decode(&one) == nil && one == "off":
			return nil
		case one != "":
			return []string{one}
		}
		return []string{byDefault}
	}
	p := places{
		StateDir:  file.StateDir,
		Admin:     list(file.Admin.Listen, "127.0.0.1:9780"),
		Health:    list(file.Health.Listen, "127.0.0.1:9781"),
		TokenFile: file.Admin.TokenFile,
	}
	if p.StateDir == "" {
		p.StateDir = "/var/lib/regward"
	}
	return p
}

func (a *app) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Make the running instance load its configuration now, and print what changed",
		Args:  nothingBut("reload: takes no %q"),
		RunE: do(func(ctx context.Context, _ []string) error {
			client, err := a.adminClient()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			status, body, err := client.do(ctx, http.MethodPost, "/api/v1/reload?"+url.Values{"by": {a.operator()}}.Encode())
			if err != nil {
				return err
			}
			var o outcome
			if err := json.Unmarshal(body, &o); err != nil || status != http.StatusOK && status != http.StatusUnprocessableEntity {
				return fmt.Errorf("the running instance answered %d: %s", status, strings.TrimSpace(string(body)))
			}
			return a.printOutcome(o)
		}),
	}
}

func (a *app) printOutcome(o outcome) error {
	if a.json() {
		if err := a.printJSON(o); err != nil {
			return err
		}
	} else if o.OK {
		fmt.Fprintf(a.stdout, "configuration %s is in force\n", o.Version)
		for _, line := range o.Changes {
			fmt.Fprintf(a.stdout, "  %s\n", line)
		}
		if len(o.Changes) == 0 {
			fmt.Fprintln(a.stdout, "  nothing changed")
		}
		if o.Last != nil {
			fmt.Fprintf(a.stdout, "  last changed at %s (%s):\n", clock(o.Last.At), o.Last.Trigger)
			for _, line := range o.Last.Changes {
				fmt.Fprintf(a.stdout, "    %s\n", line)
			}
		}
		if o.Others != "" {
			fmt.Fprintf(a.stdout, "  %s\n", o.Others)
		}
		for _, p := range o.Warnings {
			fmt.Fprintln(a.stdout, p)
		}
		for _, key := range o.Restart {
			fmt.Fprintf(a.stdout, "warning: %s changed; only a restart applies it\n", key)
		}
	}
	if o.OK {
		return nil
	}
	if a.json() {
		return errTold
	}
	fmt.Fprintf(a.stderr, "not loaded; configuration %s stays in force\n", o.Version)
	if len(o.Problems) > 0 {
		return o.Problems
	}
	return errors.New(o.Error)
}
