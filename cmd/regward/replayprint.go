package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/regward/regward/proxy"
)

// maxNamed is how many are named in a list for people; --output json has all.
const maxNamed = 20

// print writes the report for people.
func (r *findings) print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s, %s to %s UTC\n", r.Config, plural(int(r.Logs.Requests), "request"), moment(r.Logs.First), moment(r.Logs.Last))
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range r.Logs.Files {
		fmt.Fprintf(t, "  %s\t%s\t%s\n", harmless(f.Name), f.Format, plural(int(f.Requests), "request"))
	}
	t.Flush()
	r.printLimits(&b)
	r.printDenials(&b)
	if r.suggest {
		r.printSuggestions(&b)
	}
	fmt.Fprint(&b, "\nwhat cannot be known, or was not read\n")
	for _, line := range r.Unknown {
		fmt.Fprintf(&b, "  - %s\n", line)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *findings) printLimits(b *strings.Builder) {
	if len(r.Limits) == 0 {
		fmt.Fprint(b, "\nno limits\n")
		return
	}
	fmt.Fprint(b, "\nlimits\n")
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "  NAME\tLIMIT\tCOUNTED\tTHROTTLED\tCLIENTS\tFIRST\n")
	for i := range r.Limits {
		l := &r.Limits[i]
		if l.NotTried != "" {
			fmt.Fprintf(t, "  %s\t%s\tnot tried: %s\n", l.Name, l.what, l.NotTried)
			continue
		}
		first := ""
		if l.First != nil {
			first = moment(*l.First)
		}
		fmt.Fprintf(t, "  %s\t%s\t%d\t%s\t%d of %d\t%s\n", l.Name, l.what, l.Asked, ofAll(l.Throttled, l.Asked), len(l.Who), l.Clients, first)
	}
	t.Flush()
	for i := range r.Limits {
		r.Limits[i].printWho(b)
	}
}

// printWho names those whom a limit would have thrown out.
func (l *limitReport) printWho(b *strings.Builder) {
	if len(l.Who) == 0 {
		return
	}
	verb, out := "would have throttled", "out for "
	if l.Slows {
		verb, out = "would have slowed down", "held up for "
	}
	if l.DryRun {
		verb += ", were it no dry run,"
	}
	fmt.Fprintf(b, "\n%s %s\n", l.Limit, verb)
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, c := range l.Who[:min(len(l.Who), maxNamed)] {
		spells := ""
		if c.Times > 1 {
			spells = fmt.Sprintf(" in %d spells, the longest %s", c.Times, lasting(c.Longest))
		}
		fmt.Fprintf(t, "  %s\t%s\tfirst %s\t%s%s%s\n", harmless(clientName(c.Client)), ofAll(c.Throttled, c.Asked)+" of "+plural(int(c.Asked), "request"), moment(c.First), out, lasting(c.Seconds), spells)
	}
	t.Flush()
	if more := len(l.Who) - maxNamed; more > 0 {
		fmt.Fprintf(b, "  and %d more, whom --output json names\n", more)
	}
}

func (r *findings) printDenials(b *strings.Builder) {
	fmt.Fprint(b, "\nrules\n")
	if len(r.Denials) == 0 {
		fmt.Fprint(b, "  nobody would have been denied anything\n")
		return
	}
	rule, named, more := "\x00", 0, 0
	var t *tabwriter.Writer
	flush := func() {
		if t != nil {
			t.Flush()
		}
		if more > 0 {
			fmt.Fprintf(b, "    and %d more, whom --output json names\n", more)
		}
		named, more = 0, 0
	}
	for i := range r.Denials {
		d := &r.Denials[i]
		if d.Rule != rule {
			flush()
			rule = d.Rule
			switch {
			case d.DryRun:
				fmt.Fprintf(b, "  %s, a dry run, would deny\n", rule)
			case rule == "":
				fmt.Fprint(b, "  no rule allows\n")
			default:
				fmt.Fprintf(b, "  %s denies\n", rule)
			}
			t = tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
		}
		if named++; named > maxNamed {
			more++
			continue
		}
		fmt.Fprintf(t, "    %s\t%s\t%s\t%s, first %s\n", harmless(d.Who), d.Action, harmless(d.Repository), plural(int(d.Requests), "request"), moment(d.First))
	}
	flush()
}

func (r *findings) printSuggestions(b *strings.Builder) {
	fmt.Fprint(b, "\nthe lowest rates that would have been enough\n")
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for i := range r.Limits {
		l := &r.Limits[i]
		s := l.Suggestion
		if s == nil {
			none := l.none
			if none == "" {
				none = "not tried"
			}
			fmt.Fprintf(t, "  %s\t%s\n", l.Name, none)
			continue
		}
		fmt.Fprintf(t, "  %s\t%s\n", l.Name, s.words(l.Clients))
	}
	t.Flush()
}

// words are a suggestion in two columns: what to write, and what it does.
func (s *suggestion) words(clients int) string {
	burst := ""
	if s.Burst > 0 {
		burst = fmt.Sprintf(", burst: %d as configured", s.Burst)
	}
	if s.Rate == "" {
		return fmt.Sprintf("no rate%s\t%d of %d clients came with more than that at once, up to %d: write a burst as large", burst, s.Throttled, clients, s.AtOnce)
	}
	who := "throttles nobody"
	if s.Throttled > 0 {
		who = fmt.Sprintf("throttles %d of %d clients", s.Throttled, clients)
	}
	need := fmt.Sprintf("the busiest client needs %d", s.Need)
	if s.Burst > 0 && s.Need <= 0 {
		need = "the burst alone is enough for the busiest client"
		if s.Throttled > 0 {
			need = fmt.Sprintf("the busiest client came with %d at once", s.AtOnce)
		}
	}
	if !s.Exact {
		need += ", at least"
	}
	return fmt.Sprintf("rate: %s%s\t%s\t%s", s.Rate, burst, who, need)
}

// rateWords is a limit without its name and place: "100/6h pulls per ip", "40/s burst 4000 pulls per user".
func rateWords(l *proxy.Limit) string {
	bare := *l
	bare.Name, bare.Where = "", ""
	return strings.TrimPrefix(limitWords(bare), ": ")
}

// ofAll is "3 (0.5%)".
func ofAll(n, all int64) string {
	if n == 0 || all == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%.1f%%)", n, 100*float64(n)/float64(all))
}

// clientName is a bucket's owner as a person would write it.
func clientName(client string) string {
	kind, name, _ := strings.Cut(client, ":")
	switch kind {
	case "ip":
		return "address " + strings.Replace(name, " user:", ", user ", 1)
	case "all":
		return "everybody"
	}
	return kind + " " + name
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

// lasting is a time to the second: 3h12m5s.
func lasting(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Second {
		return "less than 1s"
	}
	return d.Round(time.Second).String()
}

func indented(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString("\n      " + line)
	}
	return b.String()
}
