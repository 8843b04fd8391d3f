package configs

import (
	"fmt"
	"strings"
	"time"

	"github.com/regward/regward/ratelimit"
)

// What no caller reaches, and what each one runs into.
const (
	neverRate      = 100_000        // events in a second: more than one instance serves (performance.md)
	neverBurst     = 100_000_000    // events at once
	neverGuesses   = 100            // failed logins in a second: bcrypt is slower
	neverSpeed     = 12_500_000_000 // bytes in a second: 100 Gbit/s
	alwaysWait     = 24 * time.Hour // for the next event, once the burst is used up
	onePull        = 20             // requests that a pull of a dozen layers may take
	dockerLayers   = 3              // docker and containerd fetch as many at once
	tcpWindow      = 64 << 10       // bytes under way on a connection of no great distance
	layer          = 100_000_000    // bytes of a layer of usual size
	neverTransfers = 100_000        // more than a machine has ports for
)

// warnAbsurd finds limits that never bite, and those that always do. A dry run
// tells the latter soon enough, and is warned of all the same: validate is
// asked before.
func (k *checker) warnAbsurd(at string, l Limit) {
	switch l.Count {
	case CountBytes:
		k.warnSpeed(at, l)
	case CountTransfers:
		k.warnTransfers(at, l)
	case "":
	default:
		k.warnRate(at, l)
	}
}

func (k *checker) warnRate(at string, l Limit) {
	if l.Rate.Events == 0 {
		return
	}
	most := float64(neverRate)
	if l.Count == CountFailedLogins {
		most = neverGuesses
	}
	each := time.Duration(float64(l.Rate.Per) / float64(l.Rate.Events))
	speed := float64(l.Rate.Events) / l.Rate.Per.Seconds()
	switch {
	case speed > most && l.Count == CountFailedLogins:
		k.maybe(at+".rate", fmt.Sprintf("%s never bites: passwords cannot even be checked so fast, so anybody may guess", l.RateText), "write what a person may mistype: 10/15m")
	case speed > most:
		k.maybe(at+".rate", fmt.Sprintf("%s never bites: no %s come so fast", l.RateText, l.Count), "write what too many would be, or leave the limit out")
	case l.Rate.Burst > neverBurst:
		path := at + ".burst"
		if !k.given(path) {
			path = at + ".rate"
		}
		k.maybe(path, fmt.Sprintf("never bites: %d %s may come at once before any has to wait", l.Rate.Burst, l.Count), "write a smaller burst, or leave the limit out")
	case each > alwaysWait:
		k.maybe(at+".rate", fmt.Sprintf("%s always bites: after %s, the next one has to wait %v", l.RateText, quantity(l.Rate.Burst, l.Count), Duration(each.Round(time.Minute))), "write a rate that gives one back within a day")
	case l.Count == CountRequests && personal(l.Per) && l.Rate.Burst < onePull:
		k.maybe(at+".rate", fmt.Sprintf("always bites: one pull is a request for each layer and some more, and only %d may come at once", l.Rate.Burst), fmt.Sprintf("count pulls, or write a burst of %d or more", 5*onePull))
	}
}

// quantity is "one pull", "3 pulls".
func quantity(n int, c Count) string {
	if n == 1 {
		return "one " + map[Count]string{CountPulls: "pull", CountPushes: "push", CountRequests: "request", CountFailedLogins: "failed login"}[c]
	}
	return fmt.Sprintf("%d %s", n, strings.ReplaceAll(string(c), "_", " "))
}

func (k *checker) warnSpeed(at string, l Limit) {
	if l.Rate.Events == 0 {
		return
	}
	speed := float64(l.Rate.Events) / l.Rate.Per.Seconds()
	switch {
	case speed > neverSpeed:
		k.maybe(at+".rate", fmt.Sprintf("%s never bites: that is more than 100 Gbit/s", l.RateText), "write what too much would be, or leave the limit out")
	case speed < tcpWindow:
		wait := "years"
		if seconds := layer / speed; seconds < maxDuration.Seconds() {
			wait = Duration(time.Duration(seconds * float64(time.Second)).Round(time.Minute)).String()
		}
		k.maybe(at+".rate", fmt.Sprintf("%s always bites: it is less than one TCP window in a second, and a layer of 100MB takes %s", l.RateText, wait), "write 1MB/s or more; to refuse somebody, write a rule with deny")
	case l.Rate.Burst < tcpWindow:
		k.maybe(at+".burst", fmt.Sprintf("%s is less than one TCP window: transfers halt and start again", ratelimit.FormatBytes(l.Rate.Burst)), "leave it out for one second's worth, or write 64KiB or more")
	}
}

func (k *checker) warnTransfers(at string, l Limit) {
	switch {
	case l.Most == 0:
	case l.Most > neverTransfers:
		k.maybe(at+".rate", fmt.Sprintf("%d never bites: no machine has so many connections", l.Most), "write what too many would be, or leave the limit out")
	case l.Most < dockerLayers:
		k.maybe(at+".rate", fmt.Sprintf("%d always bites: docker and containerd fetch %d layers of an image at once, and what is refused fails the pull", l.Most, dockerLayers), fmt.Sprintf("write %d or more", dockerLayers))
	}
}
