package proxy

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// streams are requests on one connection of HTTP/2 that a test sees the frames of.
type streams struct {
	*testing.T
	f    *http2.Framer
	end  func()
	dec  *hpack.Decoder
	next uint32
	who  string // value of Authorization
}

func (g *gate) streams(t *testing.T, user string, scopes ...string) *streams {
	t.Helper()
	c := g.dial("h2")
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, http2.ClientPreface)
	s := &streams{T: t, f: http2.NewFramer(c, c), end: func() { _ = c.Close() }, dec: hpack.NewDecoder(4096, nil), next: 1,
		who: "Bearer " + g.token(user, scopes...)}
	_ = s.f.WriteSettings()
	return s
}

func (s *streams) get(path string) (id uint32) {
	s.Helper()
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", gateHost}, {":path", path}, {"authorization", s.who}} {
		_ = enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1], Sensitive: true})
	}
	id, s.next = s.next, s.next+2
	if err := s.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true}); err != nil {
		s.Fatal(err)
	}
	return id
}

// statuses reads until n streams are answered: their status, and of each what
// came of its body before.
func (s *streams) statuses(n int) map[uint32]string {
	s.Helper()
	got := map[uint32]string{}
	for len(got) < n {
		frame, err := s.f.ReadFrame()
		if err != nil {
			s.Fatalf("%v so far: %v", got, err)
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = s.f.WriteSettingsAck()
			}
		case *http2.HeadersFrame:
			fields, err := s.dec.DecodeFull(f.HeaderBlockFragment())
			if err != nil {
				s.Fatal(err)
			}
			for _, h := range fields {
				if h.Name == ":status" {
					got[f.StreamID] = h.Value
				}
			}
		}
	}
	return got
}

// Of five downloads at once on one connection three are refused, before their
// first byte; who takes a stream or the connection back gives its place back.
func TestTransfersOnOneConnection(t *testing.T) {
	g := newGate(t, usual+"limit blobs transfers 2 per=user")
	arrived := g.stuckBlobs()
	path := "/v2/coolteam/app/blobs/" + layerDigest
	s := g.streams(t, "ann", pulls("coolteam/app"))
	five := func(s *streams) (moving []uint32) {
		t.Helper()
		for range 5 {
			s.get(path)
		}
		for id, status := range s.statuses(5) {
			switch status {
			case "200":
				moving = append(moving, id)
			case "429":
			default:
				t.Errorf("stream %d: %s", id, status)
			}
		}
		if n := g.heldNow("blobs"); len(moving) != 2 || n != 2 {
			t.Fatalf("%d of 5 go on and %d places are held, want 2", len(moving), n)
		}
		for range moving {
			<-arrived
		}
		return moving
	}

	// Taken back stream by stream: the connection stays.
	for _, code := range []http2.ErrCode{http2.ErrCodeCancel, http2.ErrCodeInternal} {
		for _, id := range five(s) {
			_ = s.f.WriteRSTStream(id, code)
		}
		g.freeSoon("blobs")
	}

	// GOAWAY: streams that run go on to their end, or to that of the connection.
	five(s)
	_ = s.f.WriteGoAway(0, http2.ErrCodeNo, nil)
	s.end()
	g.freeSoon("blobs")

	// And as Go's own client, crane's, does it.
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		for range 2 {
			resp, err := g.h2.Do(g.request("GET", path, bearer(strings.TrimPrefix(s.who, "Bearer "))).WithContext(ctx))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = resp.Body.Close() })
			if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
				t.Fatalf("%s %s", resp.Proto, resp.Status)
			}
			<-arrived
		}
		cancel()
		g.freeSoon("blobs")
	}
}

// stuckBlobs makes downloads of blobs stop midway until nobody wants them.
func (g *gate) stuckBlobs() (arrived chan struct{}) {
	arrived = make(chan struct{}, 100)
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "GET" || !strings.Contains(r.URL.Path, "/blobs/sha256:") {
			return false
		}
		w.Header().Set("Content-Length", "100000000")
		_, _ = w.Write(layer)
		_ = http.NewResponseController(w).Flush()
		arrived <- struct{}{}
		<-r.Context().Done()
		return true
	})
	return arrived
}

// heldNow is how many places of a limit are held, while requests run.
func (g *gate) heldNow(limit string) (n int) {
	g.Helper()
	list, err := g.Limiter.List(g.Context(), limit, 10)
	if err != nil {
		g.Fatal(err)
	}
	for _, u := range list {
		n += u.Used
	}
	return n
}

// freeSoon waits until no place of a limit is held.
func (g *gate) freeSoon(limit string) {
	g.Helper()
	for end := time.Now().Add(4 * time.Second); g.heldNow(limit) != 0; time.Sleep(time.Millisecond) { // idle times are longer
		if time.Now().After(end) {
			g.Fatalf("%d places are held by nobody", g.heldNow(limit))
		}
	}
}
