package fleet_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/regward/regward/fleet"
)

// What an instance tells of who does most reaches the others, and is left out
// where its value would grow longer than what is read: the instance stays known.
func TestTopIsToldWhereThereIsRoom(t *testing.T) {
	s := newServer(t)
	m := join(t, s.client(t))
	for size, want := range map[int]bool{10: true, 6 << 10: true, 16 << 10: false} {
		top := json.RawMessage(`"` + strings.Repeat("x", size) + `"`)
		other := join(t, s.client(t), func(o *fleet.Options) {
			o.Self = func() fleet.Instance { return fleet.Instance{Host: "other", Top: top} }
		})
		list, err := m.Instances(ctx(t))
		if err != nil || len(list) != 2 {
			t.Fatalf("with %d bytes: %v, %v", size, list, err)
		}
		for _, i := range list {
			if i.Self {
				continue
			}
			if told := string(i.Top) == string(top); told != want || !want && i.Top != nil {
				t.Errorf("with %d bytes: told %t, want %t", size, told, want)
			}
		}
		other.Close()
	}
}
