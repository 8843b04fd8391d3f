package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regward/regward/trust"
)

// trustWait is how long a host has to show its certificates.
const trustWait = 30 * time.Second

// maxCAFile is the longest file that --ca-file takes; a bundle of all public CAs
// has a quarter of a megabyte.
const maxCAFile = 4 << 20

func (a *app) trustCommand() *cobra.Command {
	var client, caFile string
	kinds := make([]string, 0, len(trust.Clients()))
	for _, c := range trust.Clients() {
		kinds = append(kinds, string(c))
	}
	c := &cobra.Command{
		Use:   "trust HOST --for CLIENT",
		Short: "Print the commands and files that make a client trust the certificate HOST shows",
		Long: "Print the commands and files that make a client trust the certificate HOST shows.\n\n" +
			"HOST is written as in the name of an image, with its port if that has one. CLIENT is\n" +
			strings.Join(kinds, ", ") + ". Nothing is changed: what is\n" +
			"printed can be pasted into a shell, after the fingerprint in it was compared with what\n" +
			"those say who run the registry.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError("trust: which host, as in the name of an image? as in: regward trust registry.example.com:5000 --for docker")
			}
			return nil
		},
		RunE: do(func(ctx context.Context, args []string) error {
			host, err := trust.ParseHost(args[0])
			if err != nil {
				return usageError("trust: " + harmless(err.Error()))
			}
			if !slices.Contains(kinds, client) {
				return usageError("trust: --for whom? " + strings.Join(kinds, ", "))
			}
			answer, err := findTrust(ctx, host, trust.Client(client), caFile)
			if err != nil {
				return fmt.Errorf("trust: %w", err)
			}
			if a.json() {
				return a.printJSON(answer)
			}
			answer.print(a.stdout)
			return nil
		}),
	}
	c.Flags().StringVar(&client, "for", "", "`CLIENT` that is to trust HOST: "+strings.Join(kinds, ", "))
	c.Flags().StringVar(&caFile, "ca-file", "", "the CA's certificate in PEM, from `FILE` and not from the net")
	return c
}

// trustAnswer is what --output json prints. Without anything needed it has only
// notes.
type trustAnswer struct {
	Host        string       `json:"host"`
	For         trust.Client `json:"for"`
	Needed      bool         `json:"needed"`
	Subject     string       `json:"subject,omitempty"`
	Fingerprint string       `json:"fingerprint,omitempty"` // SHA-256
	CA          string       `json:"ca,omitempty"`          // PEM
	Files       []trust.File `json:"files"`
	Commands    []string     `json:"commands"` // shell, to be run in this order
	Restart     string       `json:"restart,omitempty"`
	Notes       []string     `json:"notes"`

	from  string // --ca-file
	steps []trust.Step
}

func findTrust(ctx context.Context, host trust.Host, client trust.Client, caFile string) (*trustAnswer, error) {
	given, err := readCAFile(caFile)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, trustWait)
	defer cancel()
	shown, err := trust.Fetch(ctx, host, http.ProxyFromEnvironment)
	if err != nil {
		return nil, err
	}
	// Without a store of its own a system knows no CA, and all is as if it
	// lacked this one.
	roots, _ := x509.SystemCertPool()
	anchor, err := trust.Find(shown, given, roots, time.Now())
	if err != nil {
		return nil, err
	}
	answer := &trustAnswer{Host: host.String(), For: client, Files: []trust.File{}, Commands: []string{}, from: caFile}
	if shown.Proxy != "" {
		answer.Notes = append(answer.Notes, fmt.Sprintf("The host was asked through the proxy %s. A proxy that opens TLS shows certificates of its own: then this CA is the proxy's.", shown.Proxy))
	}
	if anchor.Cert == nil {
		answer.Notes = slices.Concat(trust.Unneeded(client, host, anchor.System), answer.Notes, anchor.Notes)
		return answer, nil
	}
	plan, err := trust.Make(client, host, anchor.Cert)
	if err != nil {
		return nil, err
	}
	answer.Needed = true
	answer.Subject, answer.Fingerprint, answer.CA = trust.Subject(anchor.Cert), trust.Fingerprint(anchor.Cert), trust.PEM(anchor.Cert)
	answer.Files, answer.Restart, answer.steps = plan.Files, plan.Restart, plan.Steps
	for _, s := range plan.Steps {
		answer.Commands = append(answer.Commands, s.Shell)
	}
	answer.Notes = slices.Concat(answer.Notes, anchor.Notes, plan.Notes)
	return answer, nil
}

// readCAFile reads the certificates of --ca-file; none if it was not given.
func readCAFile(name string) ([]*x509.Certificate, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		var at *fs.PathError
		if errors.As(err, &at) {
			err = at.Err
		}
		return nil, fmt.Errorf("--ca-file %s: %w", name, err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxCAFile+1))
	if err != nil {
		return nil, fmt.Errorf("--ca-file %s: %w", name, err)
	}
	if len(content) > maxCAFile {
		return nil, fmt.Errorf("--ca-file %s: longer than 4 MB: the certificate of one CA is wanted", name)
	}
	certs, err := trust.Certificates(content)
	if err != nil {
		return nil, fmt.Errorf("--ca-file %s: %w", name, err)
	}
	return certs, nil
}

// print is shell all through: what is for people stands in comments.
func (t *trustAnswer) print(w io.Writer) {
	paragraph := func(text string) { fmt.Fprintf(w, "%s\n", trust.Comment(text)) }
	if !t.Needed {
		for _, n := range t.Notes {
			fmt.Fprint(w, trust.Comment(n))
		}
		return
	}
	if t.from != "" {
		paragraph(fmt.Sprintf("%s shows a certificate that leads to \"%s\", the CA of your file. Its SHA-256 fingerprint:\n\n    %s", t.Host, t.Subject, t.Fingerprint))
	} else {
		paragraph(fmt.Sprintf("%s shows a certificate that leads to \"%s\".\n\n"+
			"That it is theirs is not proved yet: it came over the net, and whoever sits in between could have sent another. "+
			"Before you go on, compare its SHA-256 fingerprint with what those say who run the registry, "+
			"over another way, a telephone for example:\n\n    %s\n\n"+
			"There, this prints it: openssl x509 -noout -fingerprint -sha256 -in ca.crt "+
			"(regward with tls.mode: internal prints that ca.crt: regward ca).", t.Host, t.Subject, t.Fingerprint))
	}
	for _, s := range t.steps {
		fmt.Fprint(w, trust.Comment(s.Say), "\n", s.Shell, "\n")
	}
	paragraph(t.Restart)
	for _, n := range t.Notes {
		fmt.Fprint(w, trust.Comment("- "+n))
	}
}
