package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
)

// kept is what Options.File holds.
type kept struct {
	Revoked   []keptRevocation `json:"revoked"`
	Overrides []keptOverride   `json:"overrides"`
}

type keptOverride struct {
	Override
	Order int64     `json:"order"`
	Ended bool      `json:"ended,omitempty"`
	Keep  time.Time `json:"keep"`
}

type keptRevocation struct {
	User   string    `json:"user"`
	At     int64     `json:"at"` // Unix milliseconds
	Until  time.Time `json:"until"`
	Unsent bool      `json:"unsent,omitempty"`
}

// save writes what must survive a restart. It logs its error, too.
func (f *Fleet) save() error {
	if f.o.File == "" {
		return nil
	}
	f.saving.Lock()
	defer f.saving.Unlock()
	k := kept{Revoked: []keptRevocation{}, Overrides: []keptOverride{}}
	f.mu.Lock()
	for _, o := range f.overrides {
		k.Overrides = append(k.Overrides, keptOverride{o.Override, o.order, o.ended, o.keep})
	}
	for user, r := range f.revoked {
		k.Revoked = append(k.Revoked, keptRevocation{user, r.at, r.until, r.unsent})
	}
	f.mu.Unlock()
	raw, err := json.Marshal(k)
	if err == nil {
		err = replace(f.o.File, raw)
	}
	if err != nil {
		f.o.Log.Error("revocations and overrides are not kept over a restart", zap.Error(err))
	}
	return err
}

// replace writes a file so that it is the old one or the new one, whatever
// happens.
func replace(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone, if all is well
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// load reads what save wrote. What cannot be read is logged: a start must not
// fail for it.
func (f *Fleet) load() {
	if f.o.File == "" {
		return
	}
	k, err := readKept(f.o.File)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		f.o.Log.Error("revocations and overrides from before the restart are lost", zap.Error(err))
		return
	}
	var told []Revocation
	now, overridden := f.o.Now(), false
	f.mu.Lock()
	for _, r := range k.Revoked {
		if !plain(r.User) || r.At <= 0 || r.At > maxEpoch || !now.Before(r.Until) {
			continue
		}
		one, raised := f.raise(r.User, revocation{r.At, r.Until, r.Unsent && f.o.Client != nil})
		if raised {
			told = append(told, one)
		}
	}
	for _, o := range k.Overrides[:min(len(k.Overrides), 2*MaxOverrides)] {
		one := override{Override: o.Override, order: o.Order, ended: o.Ended, keep: o.Keep}
		if now.Before(o.Keep) && o.Keep.Sub(now) <= MaxOverrideFor && !o.Until.After(o.Keep) && plain(o.Limit) && plain(o.Rate) {
			f.overrides[o.Limit] = one
			overridden = overridden || one.holds(now)
		}
	}
	f.mu.Unlock()
	f.tellRevoked(told)
	if overridden {
		f.tellOverrides()
	}
}

func readKept(path string) (k kept, err error) {
	file, err := os.Open(path)
	if err != nil {
		return k, err
	}
	defer func() { _ = file.Close() }()
	raw, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return k, err
	}
	if len(raw) > maxFile {
		return k, fmt.Errorf("%s: longer than %d bytes", path, maxFile)
	}
	if err := json.Unmarshal(raw, &k); err != nil {
		return k, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}
