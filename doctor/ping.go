package doctor

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// skew is how far clocks may be apart: tokens are forgiven a minute (T13).
const skew = time.Minute

// askPing asks /v2/ as every client does first. Its answer is why nothing
// further can be done, "" if it can.
func (e *examination) askPing(ctx context.Context) string {
	r, err := e.ask(ctx, http.MethodGet, e.url("/v2/"), nil, nil)
	if err != nil {
		return e.sayNoAnswer(ctx, err)
	}
	e.ping = r
	if why := e.wrongPing(r); why != "" {
		e.checkClock(r)
		return why
	}
	e.ok("ping", fmt.Sprintf("GET %s is answered %d", place(r.url), r.status))
	e.checkClock(r)
	if r.header.Get("Docker-Distribution-Api-Version") == "" {
		e.note("C15", "no Docker-Distribution-Api-Version header", "docker up to 20.10 looks for it", "send Docker-Distribution-Api-Version: registry/2.0 with every answer below /v2/ (distribution: http.headers; nginx: proxy_pass_header keeps it)")
	}
	return ""
}

func (e *examination) sayNoAnswer(ctx context.Context, err error) string {
	what := "GET /v2/: "
	switch {
	case isCertificate(err):
		e.problem("chain", what+reason(err), "every client refuses it", e.trustFix())
	case alertOf(err) != "":
		e.problem("client-certificate", what+"the server ends TLS: "+alertOf(err), "it insists on a client certificate", e.pairFix())
	case isTimeout(err):
		e.problem("answer", what+"no answer in "+e.o.Step.String(), "something accepts connections and does not answer: the registry hangs, or a proxy cannot reach it", "ask the registry directly, without its proxy, and look into the proxy's log")
	case strings.Contains(err.Error(), "malformed HTTP"), e.at.Scheme == "http" && e.banner(ctx) != "": // who speaks first
		e.problem("port", what+"what comes back is no HTTP", "something else listens on port "+e.at.Port, "use the registry's port")
	default:
		e.problem("answer", what+reason(err), "the connection ends without an answer", "look into the log of what listens on port "+e.at.Port)
	}
	return "GET /v2/ is not answered"
}

// pairFix is where clients keep the certificate they show.
func (e *examination) pairFix() string {
	return fmt.Sprintf("docker: /etc/docker/certs.d/%s/client.cert and client.key; containerd: client in hosts.toml; or let logins do (nginx: ssl_verify_client optional;)", e.at.Host())
}

// wrongPing says what is wrong with a status that no registry may answer.
func (e *examination) wrongPing(r reply) string {
	what := fmt.Sprintf("GET %s is answered %s", place(r.url), e.said(r))
	body := strings.ToLower(string(r.body))
	switch {
	case r.is(http.StatusOK, http.StatusUnauthorized):
		return ""
	case r.status == http.StatusBadRequest && e.at.Scheme == "http" && strings.Contains(body, "https"):
		e.problem("port", what, "the port speaks TLS, and was asked in plain HTTP", "use https://"+e.at.Address())
	case r.status == http.StatusBadRequest && strings.Contains(body, "ssl certificate"):
		e.problem("client-certificate", what, "it insists on a client certificate", e.pairFix())
	case r.status == http.StatusTooManyRequests:
		e.limited("GET "+place(r.url), r, "wait, and log in where limits are per user; the ping itself should never be limited (C18)")
	case r.status >= 300 && r.status < 400:
		e.problem("C16", fmt.Sprintf("GET %s is redirected to %s", place(r.url), e.target(r)), "docker files the challenge under the final URL and finds none later",
			"answer /v2/ in place (nginx: location /v2/ { proxy_pass ...; } in the block that is asked, before any return 301); give clients the final name")
	case r.is(http.StatusNotFound, http.StatusMethodNotAllowed):
		e.problem("answer", what, "no registry answers here: clients ask exactly this path", "nginx: location /v2/ { proxy_pass http://REGISTRY; } without a path behind it; Nexus: a connector port, or a rewrite to /repository/NAME/v2/")
	case r.is(http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout):
		e.problem("answer", what, "a proxy answers, and the registry behind it does not", "start the registry; compare the proxy's upstream address with it (nginx: proxy_pass; error.log says which)")
	case r.status == http.StatusForbidden:
		e.problem("answer", what, "clients take anything but 200 and 401 as the end", "a firewall for web pages or an allow list refuses this address: let /v2/ through")
	case r.status == http.StatusMisdirectedRequest:
		e.problem("answer", what, "the server does not serve this name", "add "+e.at.Name+" to its names (regward: hostname), and have a proxy in front pass on the name it was asked for (nginx: proxy_set_header Host $http_host)")
	default:
		e.problem("answer", what, "clients take anything but 200 and 401 as the end", "look into the registry's log")
	}
	return fmt.Sprintf("GET /v2/ is answered %d", r.status)
}

// target is where an answer redirects to.
func (e *examination) target(r reply) string {
	u, err := r.url.Parse(r.header.Get("Location"))
	if err != nil {
		return "nowhere"
	}
	return place(u)
}

func (e *examination) retryAfter(r reply) string {
	if after := r.header.Get("Retry-After"); after != "" {
		return ", Retry-After: " + cut(e.hide(after), 40)
	}
	return ""
}

func (e *examination) checkClock(r reply) {
	theirs, err := http.ParseTime(r.header.Get("Date"))
	if err != nil {
		e.skip("the answer has no Date", "clock")
		return
	}
	apart := e.o.Now().Sub(theirs).Round(time.Second)
	if apart.Abs() <= skew {
		e.ok("clock", "ours and theirs agree")
		return
	}
	side := "behind"
	if apart < 0 {
		side = "ahead of"
	}
	e.problem("clock", fmt.Sprintf("the registry's clock is %v %s ours", apart.Abs(), side), "tokens are taken for expired, or for not valid yet: logins work and pulls fail",
		"timedatectl set-ntp true, on the machine that is wrong; `date -u` on both shows which")
}
