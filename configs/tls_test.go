package configs_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/regward/regward/configs"
)

const plain = "hostname: registry.example.com\nupstream: http://registry:5000\nrules: [{subjects: everyone, repositories: \"**\", allow: \"*\"}]\n"

func TestACMEIsTheDefaultAndListensOnPort80(t *testing.T) {
	for text, want := range map[string][]string{
		plain:                               {":80"},
		plain + "tls: {http_listen: off}\n": nil,
		plain + "tls: {http_listen: \":8080\"}\n":    {":8080"},
		plain + "tls: {mode: internal}\n":            nil,
		plain + "tls: {cert_file: a, key_file: b}\n": nil,
	} {
		c := static(t, text)
		if !slices.Equal(c.TLS.HTTPListen, want) {
			t.Errorf("%s: http_listen is %v, want %v", text, c.TLS.HTTPListen, want)
		}
	}
	if c := static(t, plain); c.TLS.Mode != configs.TLSACME {
		t.Errorf("the mode is %q", c.TLS.Mode)
	}
}

func TestDNSServerHasAPort(t *testing.T) {
	for server, want := range map[string]string{
		"10.0.0.53": "10.0.0.53:53", "ns.example.com:5353": "ns.example.com:5353", "ns.example.com": "ns.example.com:53",
		`"2001:db8::53"`: "[2001:db8::53]:53",
	} {
		c := static(t, plain+"tls: {acme_dns: {server: "+server+", zone: Example.com., key_name: k, key_secret: \"${S:-aGlkZGVu}\"}}\n")
		if got := c.TLS.ACMEDNS; got.Server != want || got.Zone != "example.com" || got.Algorithm != "hmac-sha256" {
			t.Errorf("%s: %v", server, got)
		}
	}
}

func TestSecretsOfTLSAreHiddenAndCompared(t *testing.T) {
	const eab = "tls: {acme_directory: \"https://ca.example.com/d\", acme_eab: {key_id: k, mac_key: \"${S:-aGlkZGVu}\"}}\n"
	one := static(t, plain+eab)
	for _, f := range one.Show() {
		if strings.Contains(f.Value, "aGlkZGVu") {
			t.Errorf("%s shows the key", f.Path)
		}
	}
	other := static(t, plain+strings.Replace(eab, "aGlkZGVu", "b3RoZXI", 1))
	if got := configs.Diff(one, other); !slices.Equal(got, []string{"tls.acme_eab.mac_key is another one"}) {
		t.Errorf("got %q", got)
	}
}

func TestOriginsAreAsBrowsersSendThem(t *testing.T) {
	for origin, want := range map[string]string{
		"https://UI.example.com": "https://ui.example.com", "https://ui.example.com:443": "https://ui.example.com",
		"http://localhost:3000": "http://localhost:3000", "https://[::1]:443": "https://[::1]",
	} {
		c := static(t, plain+"cors: {origins: \""+origin+"\"}\n")
		if !slices.Equal(c.CORS.Origins, []string{want}) {
			t.Errorf("%s: got %v", origin, c.CORS.Origins)
		}
	}
}
