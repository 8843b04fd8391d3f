package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Reload is a request that all instances load their own files now.
type Reload struct {
	Epoch int64     `json:"-"`              // counts the requests since Redis lost its data, if ever
	By    string    `json:"by,omitempty"`   // who asked, in words
	From  string    `json:"from,omitempty"` // ID of the instance that was asked
	At    time.Time `json:"at"`             // by its clock
}

// Reload asks the other instances to load their own files; those that are cut
// off do so when they are back. This one does not ask itself. ErrNotShared says
// that nobody could be told yet.
func (f *Fleet) Reload(ctx context.Context, by string) error {
	if f.o.Client == nil {
		return nil
	}
	f.mu.Lock()
	f.asked = &Reload{By: text(by), From: f.o.ID, At: f.o.Now()}
	mine := f.asked
	f.mu.Unlock()
	err := f.pass(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asked == mine {
		return fmt.Errorf("reload: %w: %s", ErrNotShared, words(err))
	}
	return nil
}

// sendReload passes on what we were asked.
func (f *Fleet) sendReload(ctx context.Context) error {
	f.mu.Lock()
	asked := f.asked
	f.mu.Unlock()
	if asked == nil {
		return nil
	}
	raw, err := json.Marshal(asked)
	if err != nil {
		return err
	}
	answer, err := f.call(ctx, reloadScript, []string{f.keys.head}, f.keys.channel, string(raw))
	if err != nil {
		return err
	}
	if len(answer) != 2 {
		return errNonsense
	}
	epoch, err := strconv.ParseInt(answer[1], 10, 64)
	if err != nil || epoch <= 0 {
		return errNonsense
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.head.sequence(answer[0])
	if epoch == f.head.reload+1 { // else others have asked, too, and we shall hear of it
		f.head.reload = epoch
	}
	if f.asked == asked {
		f.asked = nil
	}
	return nil
}

// hearReload passes on a request that we have not heard of.
func (f *Fleet) hearReload(known int64, h head) (heard bool) {
	if h.reload <= known {
		return false
	}
	r := Reload{}
	_ = json.Unmarshal([]byte(h.asked), &r) // who asked is for the log
	r.By, r.From, r.Epoch = text(r.By), text(r.From), h.reload
	select {
	case <-f.reloads: // of several the last
	default:
	}
	f.reloads <- r // there is room: whoever writes holds f.talk
	return true
}

// reloading passes requests on in a goroutine of its own: loading takes long.
func (f *Fleet) reloading(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-f.reloads:
			if f.o.OnReload != nil {
				f.o.OnReload(r)
			}
		}
	}
}
