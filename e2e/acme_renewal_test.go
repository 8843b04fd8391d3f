package e2e

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// shortLived is a life of which an eighth is half a minute: so long nobody asks
// the CA again, whatever it suggests.
const shortLived = 4 * time.Minute

func TestARenewalInterruptsNobody(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	u.has(t, "library/large:1", image(t, 32<<20))
	a := newAsking(t, u.config)
	ca := startPebble(t, caOptions{http: a.http, tls: a.port, validity: shortLived, nonces: 20})
	a.asks(t, ca, []string{theHost})
	a.issued(t, theHost)
	shown, err := a.shows(theHost)
	if err != nil {
		t.Fatal(err)
	}
	ca.suggests(t, shown)
	client := a.connected(t, theHost, a.transport(t))
	finish := a.startPull(t, theHost, "library/large:1")

	a.says(t, "certificate for "+theHost+" renewed")
	a.showsAnother(t, shown.SerialNumber.String())
	a.tellsExpiry(t, theHost)
	client.asks(t, true)
	if err := finish(); err != nil {
		t.Errorf("a pull that was under way: %v", err)
	}
	a.pulls(t, theHost, "library/hello:1", a.transport(t))
}

// showsAnother waits for a certificate that clients believe and that is not
// was.
func (a *asking) showsAnother(t testing.TB, was string) {
	t.Helper()
	eventually(t, "the new certificate is shown", acmeTime, func() error {
		c, err := a.shows(theHost)
		if err == nil && c.SerialNumber.String() == was {
			err = errors.New("it is the old one")
		}
		return err
	})
}

// startPull reads a layer as over a slow line; finish reads the rest, and fails
// if the whole is not what its digest says.
func (a *asking) startPull(t testing.TB, host, image string) (finish func() error) {
	t.Helper()
	ref, err := name.ParseReference(fmt.Sprintf("%s:%d/%s", host, a.port, image))
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref, remote.WithTransport(a.transport(t)))
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	r, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	hurry, done := make(chan struct{}), make(chan error, 1)
	go func() {
		pace := time.NewTicker(100 * time.Millisecond)
		defer pace.Stop()
		for slow := true; slow; {
			if _, err := io.CopyN(io.Discard, r, 20_000); err != nil {
				done <- errors.Join(err, r.Close())
				return
			}
			select {
			case <-hurry:
				slow = false
			case <-pace.C:
			}
		}
		_, err := io.Copy(io.Discard, r)
		done <- errors.Join(err, r.Close())
	}()
	return func() error { close(hurry); return <-done }
}

// The CA is gone when half of a short life is over, and comes back.
func TestARenewalThatFailsIsToldAndTriedAgain(t *testing.T) {
	t.Parallel()
	a := newAsking(t, "http://127.0.0.1:1")
	ca := startPebble(t, caOptions{http: a.http, tls: a.port, validity: time.Minute})
	a.asks(t, ca, []string{theHost})
	a.issued(t, theHost)
	ca.line.cut()
	shown, err := a.shows(theHost)
	if err != nil {
		t.Fatal(err)
	}
	a.says(t, "certificate for "+theHost+" not renewed: ", ca.line.at, "connection refused", "trying again in ")
	if now, err := a.shows(theHost); err != nil || !now.Equal(shown) {
		t.Errorf("the old certificate is not shown any more: %v", err)
	}
	if err := a.ready(); err != nil {
		t.Error(err)
	}
	status := command(t, nil, suite.regward, "--config", a.file, "status").works(t)
	status.says(t, "certificate "+theHost+": ends ", "not renewed: ", "connection refused")
	a.reload(t)
	a.says(t, "certificate for "+theHost, "expires ", "could not be renewed: ", "connection refused") // M4
	ca.line.mend(t)
	a.says(t, "certificate for "+theHost+" renewed")
	a.showsAnother(t, shown.SerialNumber.String())
}

// A certificate that ended while nothing ran is shown until there is another:
// it says more than no connection.
func TestAStartWithAnExpiredStoredCertificateServesItMeanwhile(t *testing.T) {
	t.Parallel()
	a := newAsking(t, "http://127.0.0.1:1")
	ca := startPebble(t, caOptions{http: a.http, tls: a.port, validity: 20 * time.Second})
	a.asks(t, ca, []string{theHost})
	a.begin(t)
	a.says(t, "certificate for "+theHost+" obtained")
	ca.line.cut()
	was := a.serial(t, theHost)
	a.proc.kill()
	time.Sleep(20 * time.Second) // the CA has no clock to be moved
	a.begin(t)
	eventually(t, "it is ready", 30*time.Second, a.ready)
	if a.serial(t, theHost) != was {
		t.Error("another certificate, and there is no CA")
	}
	a.says(t, "certificate for "+theHost, "expired on ", "clients refuse it")
	ca.line.mend(t)
	a.says(t, "certificate for "+theHost+" renewed")
}

// Of several instances one renews. The others find that when they look: by
// themselves some times a day, and at a reload.
func TestInstancesWithOneRedisRenewOnceBetweenThem(t *testing.T) {
	t.Parallel()
	redis := startRedis(t)
	f := []*asking{newAsking(t, "http://127.0.0.1:1"), newAsking(t, "http://127.0.0.1:1")}
	ca := startPebble(t, caOptions{http: f[0].http, tls: f[1].port})
	for _, a := range f {
		a.asks(t, ca, []string{theHost})
		a.configure(t, teamRules+redis.config("")+sharedKey())
		a.begin(t)
	}
	for _, a := range f {
		a.has(t, theHost)
	}
	shown, err := f[0].shows(theHost)
	if err != nil {
		t.Fatal(err)
	}
	ca.suggests(t, shown)
	was := shown.SerialNumber.String()
	eventually(t, "one has renewed", acmeTime, func() error {
		if f[0].serial(t, theHost) == was && f[1].serial(t, theHost) == was {
			return errors.New("both show the old certificate")
		}
		return nil
	})
	for _, a := range f {
		a.reload(t)
		a.showsAnother(t, was)
	}
	oneCertificate(t, ca, f, 2)
}
