package proxy

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// A page of nginx about our certificate is no answer of a registry; any other is
// passed on as it came.
func TestAPageAboutTheClientCertificate(t *testing.T) {
	u := &Upstream{scheme: "https"}
	filler := strings.Repeat("x", maxPage400)
	for body, want := range map[string]string{
		"<html><head><title>400 No required SSL certificate was sent</title></head>" + filler: "it answers 400: 400 No required SSL certificate was sent",
		"<html>\r\n<head><title>400 The SSL certificate error</title></head>":                 "it answers 400: 400 The SSL certificate error",
		"<html><head><title>400 Bad Request</title></head>SSL certificate" + filler:           "",
		filler + "<title>400 The SSL certificate error</title>":                               "",
		"": "",
	} {
		resp := &http.Response{StatusCode: 400, Header: http.Header{"Content-Type": {"text/html"}}, Body: io.NopCloser(strings.NewReader(body))}
		err := u.refusedCertificate(resp)
		if want != "" {
			if err == nil || err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
			continue
		}
		if got, _ := io.ReadAll(resp.Body); err != nil || string(got) != body {
			t.Errorf("%q became %q, %v", body, got, err)
		}
	}
	for _, resp := range []*http.Response{
		{StatusCode: 404, Header: http.Header{"Content-Type": {"text/html"}}},
		{StatusCode: 400, Header: http.Header{"Content-Type": {"application/json"}}},
	} {
		resp.Body = io.NopCloser(strings.NewReader("<title>SSL certificate</title>"))
		if err := u.refusedCertificate(resp); err != nil {
			t.Error(err)
		}
	}
}
