package enginetest

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
)

// TestRecordersOnALogInADatabase: what recorders of two nodes take, of which some is kept beside the log, is in it once and with its values, when what was taken has been flushed.
func TestRecordersOnALogInADatabase(t *testing.T) {
	for _, engine := range logged {
		if !strings.HasSuffix(engine, "+log") {
			continue
		}
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, engine)
			var all sync.WaitGroup
			var mu sync.Mutex
			taken := map[audit.EventID]string{}
			var hosts []*host
			for n := range 2 {
				h, err := s.open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer h.close()
				hosts = append(hosts, h)
				r, err := h.sys.Recorder(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				c, err := h.as(t.Context(), "maya")
				if err != nil {
					t.Fatal(err)
				}
				for w := range 8 {
					all.Go(func() {
						for i := range 25 {
							e := h.sys.NewEvent(c, "test.typed", audit.EventID{})
							text := fmt.Sprint("typed ", n, w, i)
							if i%2 == 0 {
								text = strings.Repeat(text, 10_000)
							}
							err := e.Keep("text", []byte(text))
							if err == nil {
								err = r.Record(t.Context(), e)
							}
							if err != nil {
								t.Error(err)
								return
							}
							mu.Lock()
							taken[e.ID] = text
							mu.Unlock()
						}
					})
				}
			}
			all.Wait()
			h := hosts[1]
			if err := h.sys.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			cp, err := h.sys.Log().Checkpoint()
			if err != nil {
				t.Fatal(err)
			}
			for leaf, err := range h.sys.Log().Entries(cp, 0, cp.Size) {
				if err != nil {
					t.Fatal(err)
				}
				e, err := audit.ParseEvent(leaf)
				if err != nil {
					t.Fatal(err)
				}
				if e.Kind != "test.typed" {
					continue
				}
				text, ok := taken[e.ID]
				if o, err := h.sys.Opening(t.Context(), e.Beside["text"]); !ok || err != nil || string(o.Value) != text {
					t.Fatalf("%s: taken %t, %v", e.ID, ok, err)
				}
				delete(taken, e.ID)
			}
			if len(taken) > 0 {
				t.Errorf("%d events are not in the log", len(taken))
			}
			s.consistent(t)
		})
	}
}
