package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// progress draws how far the reading of logs has come, on a terminal only.
type progress struct {
	w     io.Writer // nil: nowhere
	now   func() time.Time
	begun time.Time
	drawn time.Time
}

func newProgress(w io.Writer) *progress {
	p := &progress{now: time.Now}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.w = w
	}
	p.begun = p.now()
	return p
}

// show draws the bar anew, five times a second at most.
func (p *progress) show(done, total, lines int64) {
	now := p.now()
	if p.w == nil || now.Sub(p.drawn) < 200*time.Millisecond {
		return
	}
	p.drawn = now
	took := now.Sub(p.begun)
	speed := ""
	if took > time.Second {
		speed = fmt.Sprintf(", %.0f lines/s", float64(lines)/took.Seconds())
	}
	if total <= 0 {
		fmt.Fprintf(p.w, "\r\x1b[K%s read%s", bytesWords(done), speed)
		return
	}
	done = min(done, total)
	const width = 30
	full := int(done * width / total)
	left := ""
	if done > 0 && took > time.Second {
		left = ", " + time.Duration(float64(took)/float64(done)*float64(total-done)).Round(time.Second).String() + " left"
	}
	fmt.Fprintf(p.w, "\r\x1b[K[%s%s] %d%% of %s%s%s", strings.Repeat("=", full), strings.Repeat(" ", width-full), done*100/total, bytesWords(total), speed, left)
}

// end takes the bar away.
func (p *progress) end() {
	if p.w != nil && !p.drawn.IsZero() {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// bytesWords is a size as people say it: 1.2 GB.
func bytesWords(n int64) string {
	for _, u := range []struct {
		of   int64
		name string
	}{{1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}} {
		if n >= u.of {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.of), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
