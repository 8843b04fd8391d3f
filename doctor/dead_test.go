package doctor

import (
	"net/netip"
	"strings"
	"testing"
)

// An address without anybody behind it, in another family or not, hits some
// clients. No test goes further than loopback to find one.
func TestADeadAddressAmongLivingOnesIsAWarning(t *testing.T) {
	e := &examination{at: Target{Scheme: "https", Name: "registry.example", Port: "443"}}
	e.sayDead([]string{"192.0.2.1"}, []string{"2001:db8::1 (no answer in time)"}, []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")})
	if f := e.report.Findings; len(f) != 1 || f[0].Level != Warning || f[0].Check != "port" || !strings.Contains(f[0].What, "not at 2001:db8::1 (no answer in time)") || f[0].Fix == "" {
		t.Errorf("got %+v", f)
	}
}
