package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

// What the file says of its upstreams is what decides.
func TestBuildHandsOverEachUpstream(t *testing.T) {
	cfg, err := configs.Parse("regward.yaml", []byte(`
hostname: [registry.example.com, hosted.example.com]
tls: {mode: internal}
upstreams:
  - {prefix: hub, url: "http://hub:5000", default_namespace: library, ns: docker.io, shared_blobs: false, redirects: pass}
  - {prefix: keep, keep_prefix: true, url: "http://keep:5000", username: regward, password: hidden}
  - {name: nexus, hostname: hosted.example.com, url: "http://nexus:8081/repository/x", credentials: account, username: u, password: p, shared_blobs: true, read_only: closed}
auth: {upstream: nexus}
search: true
`), configs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := build(cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Search || s.LoginUpstream != "nexus" || len(s.Upstreams) != 3 {
		t.Fatalf("search %v, logins asked of %q, %d upstreams", s.Search, s.LoginUpstream, len(s.Upstreams))
	}
	type upstream struct {
		Name, URL, User, Password, ReadOnly string
		Place                               auth.Place
		Passthrough, Follow                 bool
		Shared                              *bool
	}
	yes, no := true, false
	want := []upstream{
		{Name: "hub", URL: "http://hub:5000", Place: auth.Place{Prefix: "hub/", Default: "library", NS: []string{"docker.io"}}, Shared: &no},
		{Name: "keep", URL: "http://keep:5000", User: "regward", Password: "hidden", Place: auth.Place{Prefix: "keep/", Keep: true}, Follow: true},
		{Name: "nexus", URL: "http://nexus:8081/repository/x", User: "u", Password: "p", ReadOnly: "closed", Place: auth.Place{Host: "hosted.example.com"}, Follow: true, Shared: &yes},
	}
	var got []upstream
	for _, u := range s.Upstreams {
		got = append(got, upstream{u.Name, u.URL.String(), u.Username, u.Password, u.ReadOnly, u.Place, u.Passthrough, u.Follow, u.SharedBlobs})
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("upstreams (-want +got):\n%s", diff)
	}
	passes, err := configs.Parse("regward.yaml", []byte("hostname: a.example\ntls: {mode: internal}\nupstream: {url: 'http://a', credentials: passthrough}\n"), configs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := build(passes, nil, nil); err != nil || !s.Upstreams[0].Passthrough || s.LoginUpstream != "" || s.Search {
		t.Errorf("passthrough: %+v, %v", s, err)
	}
}
