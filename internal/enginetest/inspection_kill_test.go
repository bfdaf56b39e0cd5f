package enginetest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

// TestAnInspectionThatIsKilledGoesOn kills a node at random moments of an inspection, again and again, while it lasts: the one that comes to its end finds what was done to the
// database, and nothing else, though it has not done all of it itself.
func TestAnInspectionThatIsKilledGoesOn(t *testing.T) {
	for _, engine := range logged {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			s, rng := newSite(t, engine), rand.New(rand.NewPCG(seed(t), 0))
			h, err := s.open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i := range 30 {
				if _, err := commands()["fill"](t.Context(), h, args{Tag: fmt.Sprintf("part%02d", i), N: 200}); err != nil {
					t.Fatal(err)
				}
			}
			if err := h.sys.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			record := map[bool]string{true: h.cfg.Schema + ".record", false: "bailiwick_record"}[h.cfg.Schema != ""]
			for _, id := range []string{"part03-000007", "part28-000111"} {
				r, err := h.db.ExecContext(t.Context(), fmt.Sprintf("UPDATE %s SET version = 7 WHERE id = %s", record,
					map[bool]string{true: "convert_to('" + id + "', 'UTF8')", false: "CAST('" + id + "' AS BLOB)"}[h.cfg.Schema != ""]))
				if err != nil {
					t.Fatal(err)
				}
				if n, err := r.RowsAffected(); n != 1 || err != nil {
					t.Fatal(n, err)
				}
			}
			if err := h.close(); err != nil {
				t.Fatal(err)
			}
			scratch, kept := t.TempDir(), 0
			for range rounds(t) / 3 {
				n := s.start(t)
				done := n.send("inspection", args{Key: scratch, For: time.Nanosecond})
				select {
				case r := <-done:
					t.Logf("an inspection came to its end: %v", r.Value.Problems)
					n.stop()
					continue
				case <-time.After(time.Duration(rng.Int64N(int64(400 * time.Millisecond)))):
				}
				n.kill()
				if files, err := os.ReadDir(scratch); err == nil && len(files) > 1 {
					kept++
				}
			}
			n := s.start(t)
			defer n.stop()
			for range 2 { // the second begins from what the first has left
				v := n.must("inspection", args{Key: scratch, For: time.Hour})
				if slices.Sort(v.Problems); !slices.Equal(v.Problems, []string{"part03-000007 not sealed", "part28-000111 not sealed"}) {
					t.Fatal(v.Problems)
				}
			}
			if kept == 0 {
				t.Error("nothing was kept of any inspection")
			}
		})
	}
}
