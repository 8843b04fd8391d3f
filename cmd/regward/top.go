package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/regward/regward/fleet"
	"github.com/regward/regward/proxy"
)

// How many of each kind GET /api/v1/top tells of.
const (
	topShown = 20
	topMost  = 100
)

// topAnswer is the answer of GET /api/v1/top: what all instances have seen, or
// with ?here=true this one, each figure a minute's worth, the busiest first.
type topAnswer struct {
	Host       string     `json:"host"` // of the instance that was asked
	At         time.Time  `json:"at"`
	Instances  int        `json:"instances"`         // that are known, this one among them
	Heard      int        `json:"heard"`             // of them, whose figures are in here
	Missing    string     `json:"missing,omitempty"` // why some are not, in words
	Clients    []talker   `json:"clients"`
	Namespaces []talker   `json:"namespaces"`
	Limits     []topLimit `json:"limits"`
}

// talker is a client (user:ann, ip:192.0.2.7) or a namespace.
type talker struct {
	Name      string  `json:"name"`
	Requests  float64 `json:"requests"`
	Pulls     float64 `json:"pulls"`
	Pushes    float64 `json:"pushes"`
	BytesIn   float64 `json:"bytes_in"`
	BytesOut  float64 `json:"bytes_out"`
	Throttled float64 `json:"throttled"`
	Would     float64 `json:"would_throttle"`
}

// topLimit is a limit that throttles, or would.
type topLimit struct {
	Name      string  `json:"name"`
	Throttled float64 `json:"throttled"`
	Would     float64 `json:"would_throttle"`
}

func topLimits(list []proxy.Talker) []topLimit {
	out := []topLimit{}
	for _, t := range list {
		out = append(out, topLimit{t.Name, tenths(t.Throttled), tenths(t.Would)})
	}
	return out
}

func talkers(list []proxy.Talker) []talker {
	out := []talker{}
	for _, t := range list {
		out = append(out, talker{t.Name, tenths(t.Requests), tenths(t.Pulls), tenths(t.Pushes), math.Round(t.BytesIn), math.Round(t.BytesOut), tenths(t.Throttled), tenths(t.Would)})
	}
	return out
}

// tenths is as much of a fading figure as says something.
func tenths(n float64) float64 { return math.Round(n*10) / 10 }

func (s *server) top(w http.ResponseWriter, r *http.Request) {
	n := topShown
	if text := r.URL.Query().Get("most"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 || n > topMost {
			plain(w, http.StatusBadRequest, "most: a number from 1 to "+strconv.Itoa(topMost))
			return
		}
	}
	top := s.handler.Top(n)
	answer := topAnswer{Host: hostname(), At: s.now().UTC(), Clients: talkers(top.Clients), Namespaces: talkers(top.Namespaces), Limits: topLimits(top.Limits)}
	answer.addOthers(r, s.shared.fleet.Load(), r.URL.Query().Get("here") == "true", n)
	writeJSON(w, http.StatusOK, answer)
}

func (a *app) topCommand() *cobra.Command {
	var once, here bool
	every := 2 * time.Second
	c := &cobra.Command{
		Use:   "top",
		Short: "Watch who does most: clients, namespaces and limits, a minute's worth each; q quits",
		Long: fmt.Sprintf(`A live table of clients, namespaces and limits, each figure a minute's worth; q quits.

With Redis it adds up all instances: the one that is asked tells all it knows, each other one
its %d busiest of each kind, as of the last %v.`, topTold, fleet.DefaultEvery),
		Args: nothingBut("top: takes no %q"),
	}
	c.Flags().BoolVar(&once, "once", false, "print one table and end, for scripts")
	c.Flags().BoolVar(&here, "here", false, "only what the instance that is asked has seen")
	c.Flags().DurationVar(&every, "every", every, "`TIME` between two looks")
	c.RunE = do(func(ctx context.Context, _ []string) error {
		if every < 200*time.Millisecond || every > time.Hour {
			return usageError("top: --every is 200ms to 1h")
		}
		client, err := a.adminClient()
		if err != nil {
			return err
		}
		screen, live := a.stdout.(*os.File)
		live = live && term.IsTerminal(int(screen.Fd()))
		if once || a.json() || !live {
			return a.topOnce(ctx, client, here)
		}
		return a.topLive(ctx, client, here, screen, every)
	})
	return c
}

func askTop(ctx context.Context, client *instance, here bool) (answer topAnswer, err error) {
	target := fmt.Sprintf("/api/v1/top?most=%d&here=%t", topMost, here)
	return answer, client.call(ctx, http.MethodGet, target, nil, &answer)
}

func (a *app) topOnce(ctx context.Context, client *instance, here bool) error {
	answer, err := askTop(ctx, client, here)
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(answer)
	}
	answer.print(a.stdout, topShown, 0)
	return nil
}

// What a terminal understands.
const (
	ansiOpen  = "\x1b[?1049h\x1b[?25l" // another screen, no cursor
	ansiClose = "\x1b[?25h\x1b[?1049l"
	ansiHome  = "\x1b[H"
	ansiRest  = "\x1b[K" // clears the rest of the line
	ansiBelow = "\x1b[J"
)

// topLive draws the table anew until q is typed, the instance is gone, or ctx
// ends. The terminal is as before then.
func (a *app) topLive(ctx context.Context, client *instance, here bool, screen *os.File, every time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if in, ok := a.stdin.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		old, err := term.MakeRaw(int(in.Fd()))
		if err == nil {
			defer func() { _ = term.Restore(int(in.Fd()), old) }()
			go quitKey(in, cancel)
		}
	}
	fmt.Fprint(screen, ansiOpen)
	defer fmt.Fprint(screen, ansiClose)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		answer, err := askTop(ctx, client, here)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		width, height, err := term.GetSize(int(screen.Fd()))
		if err != nil || width <= 0 || height <= 0 {
			width, height = 80, 24
		}
		_, _ = screen.Write(answer.frame(width, height))
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// quitKey waits for q, Ctrl-C or Ctrl-D.
func quitKey(in io.Reader, quit func()) {
	key := make([]byte, 1)
	for {
		if n, err := in.Read(key); n == 1 && strings.IndexByte("qQ\x03\x04", key[0]) >= 0 || err != nil {
			quit()
			return
		}
	}
}

// frame is the table as a screen of that size shows it: nothing wraps, nothing
// scrolls.
func (t *topAnswer) frame(width, height int) []byte {
	var text bytes.Buffer
	rows := max(1, (height-9)/3)
	t.print(&text, rows, width)
	lines := strings.Split(strings.TrimRight(text.String(), "\n"), "\n")
	var out bytes.Buffer
	out.WriteString(ansiHome)
	for i, line := range lines[:min(len(lines), height)] {
		if i > 0 {
			out.WriteString("\r\n")
		}
		out.WriteString(cut(line, width) + ansiRest)
	}
	out.WriteString(ansiBelow)
	return out.Bytes()
}

// cut is a line no wider than a screen.
func cut(line string, width int) string {
	if r := []rune(line); len(r) > width {
		return string(r[:width])
	}
	return line
}

// print writes the three tables, at most rows of each. What others typed may be
// among the names: it reaches no terminal as it is.
func (t *topAnswer) print(w io.Writer, rows, width int) {
	head := harmless(fmt.Sprintf("regward top  %s  %s UTC  a minute's worth, %s", t.Host, t.At.UTC().Format("15:04:05"), t.of()))
	if width > 0 {
		head = "q quits  " + head
	}
	fmt.Fprintln(w, head)
	fmt.Fprintln(w)
	printTalkers(w, "CLIENT", t.Clients, rows)
	fmt.Fprintln(w)
	printTalkers(w, "NAMESPACE", t.Namespaces, rows)
	fmt.Fprintln(w)
	tab := newTable(w)
	tab.row("LIMIT", "THROTTLED", "WOULD THROTTLE")
	for _, l := range t.Limits[:min(rows, len(t.Limits))] {
		tab.row(l.Name, figure(l.Throttled), figure(l.Would))
	}
	tab.flush()
}

func printTalkers(w io.Writer, what string, list []talker, rows int) {
	tab := newTable(w)
	tab.row(what, "REQUESTS", "PULLS", "PUSHES", "TO THEM", "FROM THEM", "THROTTLED", "WOULD")
	for _, t := range list[:min(rows, len(list))] {
		tab.row(t.Name, figure(t.Requests), figure(t.Pulls), figure(t.Pushes), bytesWords(int64(t.BytesOut)), bytesWords(int64(t.BytesIn)), figure(t.Throttled), figure(t.Would))
	}
	tab.flush()
}

// figure is a number of events a minute; one that has nearly faded is "-".
func figure(n float64) string {
	switch {
	case n < 0.05:
		return "-"
	case n < 10:
		return strconv.FormatFloat(n, 'f', 1, 64)
	}
	return strconv.FormatFloat(n, 'f', 0, 64)
}

// harmless is a line, or what others typed for a part of one, that does nothing
// to a terminal and ends no line.
func harmless(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) { // control characters, and what turns the way of writing round
			return '?'
		}
		return r
	}, text)
}
