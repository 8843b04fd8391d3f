package tls

import (
	"errors"
	"fmt"
	"time"
)

// ready is nil once there is a certificate to serve.
func (m *manager) ready() error {
	if m.byDefault() != nil {
		return nil
	}
	return errors.New(m.noneYet(m.certs[0].state.Load(), m.now()))
}

// noneYet is what there is to say of a certificate that nobody has.
func (m *manager) noneYet(s *CertificateState, now time.Time) string {
	why := s.Issuer + " is being asked for one"
	if s.Problem != "" {
		why = s.Problem + nextTry(s.Next, now)
	}
	meanwhile := "connections fail"
	if m.byDefault() != nil {
		meanwhile = "another one is shown"
	}
	return fmt.Sprintf("no certificate for %s yet: %s; until it is there, %s", s.Name, why, meanwhile)
}

// nextTry is when it is, "" if that is not known.
func nextTry(next, now time.Time) string {
	switch {
	case next.IsZero():
		return ""
	case next.Sub(now) < time.Minute:
		return fmt.Sprintf("; trying again in %v", max(0, next.Sub(now).Round(time.Second)))
	}
	return "; trying again at " + next.UTC().Format("15:04 UTC")
}

// problems are M4 for each host, and that there is none.
func (m *manager) problems(now time.Time) []string {
	var all []string
	for _, c := range m.certs {
		s, k := c.state.Load(), c.inUse.Load()
		if k == nil {
			all = append(all, m.noneYet(s, now))
			continue
		}
		end := k.cert.Leaf.NotAfter
		of := fmt.Sprintf("certificate for %s (%s)", c.host, s.Issuer)
		why := "is not renewed yet"
		if s.Problem != "" {
			why = "could not be renewed: " + s.Problem + nextTry(s.Next, now)
		}
		switch {
		case k.issuer != m.issuer:
			all = append(all, fmt.Sprintf("certificate for %s comes from %s, not from %s, which %s", c.host, k.issuer, s.Issuer,
				map[bool]string{true: "is being asked for one", false: "gave none: " + s.Problem + nextTry(s.Next, now)}[s.Problem == ""]))
		case !end.After(now):
			all = append(all, fmt.Sprintf("%s expired on %s, and %s: clients refuse it", of, end.UTC().Format(minute), why))
		case s.Problem != "" || end.Sub(now) < k.lifetime()/6:
			all = append(all, fmt.Sprintf("%s expires %s, and %s", of, inDays(end, now), why))
		}
	}
	return all
}
