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

// nearItsEnd is how long certificates live that are to be renewed as soon as
// they are there, and can be served all the while.
const nearItsEnd = 10 * time.Minute

// renewing is an instance that serves what it had stored, and waits for a CA
// that says nothing yet; the returned function lets the CA go on.
func renewing(t testing.TB, upstream string) (a *asking, goOn func()) {
	t.Helper()
	a = newAsking(t, upstream)
	ca := startPebble(t, caOptions{http: a.http, tls: a.port, validity: nearItsEnd, nonces: 20})
	a.asks(t, ca, []string{theHost})
	a.issued(t, theHost)
	goOn = ca.silence(t)
	a.again(t, false)
	return a, goOn
}

func TestARenewalInterruptsNobody(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	u.has(t, "library/large:1", image(t, 32<<20))
	a, goOn := renewing(t, u.config)
	was := a.serial(t, theHost)
	client := a.connected(t, theHost, a.transport(t))
	finish := a.startPull(t, theHost, "library/large:1")

	goOn()
	a.says(t, "certificate for "+theHost+" renewed")
	eventually(t, "the new certificate is shown", time.Minute, func() error {
		if now := a.serial(t, theHost); now == was {
			return errors.New("it is the old one")
		}
		return nil
	})
	if _, err := a.shows(theHost); err != nil {
		t.Error(err)
	}
	a.tellsExpiry(t, theHost)
	client.asks(t, true)
	if err := finish(); err != nil {
		t.Errorf("a pull that was under way: %v", err)
	}
	a.pulls(t, theHost, "library/hello:1", a.transport(t))
}

// startPull reads the beginning of a layer; finish reads the rest, and fails
// if that is not what its digest says.
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
	if _, err := io.CopyN(io.Discard, r, 1000); err != nil {
		t.Fatal(err)
	}
	return func() error {
		_, err := io.Copy(io.Discard, r)
		return errors.Join(err, r.Close())
	}
}

func TestARenewalThatFailsIsToldAndTriedAgain(t *testing.T) {
	t.Parallel()
	a := newAsking(t, "http://127.0.0.1:1")
	ca := startPebble(t, caOptions{http: a.http, tls: a.port, validity: nearItsEnd})
	a.asks(t, ca, []string{theHost})
	a.issued(t, theHost)
	was := a.serial(t, theHost)
	ca.line.cut()
	a.again(t, false)
	if now := a.serial(t, theHost); now != was {
		t.Error("another certificate, and there is no CA")
	}
	a.says(t, "certificate for "+theHost+" not renewed: ", "connection refused")
	a.says(t, "certificate for "+theHost, "expires in", "connection refused") // M4
	if _, err := a.shows(theHost); err != nil {
		t.Error(err)
	}
	ca.line.mend(t)
	a.says(t, "certificate for "+theHost+" renewed")
	eventually(t, "the new certificate is shown", time.Minute, func() error {
		if a.serial(t, theHost) == was {
			return errors.New("it is the old one")
		}
		return nil
	})
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
	was := a.serial(t, theHost)
	ca.line.cut()
	a.proc.kill()
	time.Sleep(20 * time.Second) // the CA has no clock to be moved
	a.begin(t)
	eventually(t, "it is ready", 30*time.Second, a.ready)
	if a.serial(t, theHost) != was {
		t.Error("another certificate, and there is no CA")
	}
	a.says(t, "certificate for "+theHost, "expired on ")
	ca.line.mend(t)
	a.says(t, "certificate for "+theHost+" renewed")
}
