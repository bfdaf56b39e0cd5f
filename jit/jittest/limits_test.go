package jittest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// TestFullRecordsRefuse: what a record cannot keep is refused, and until then everything is kept.
func TestFullRecordsRefuse(t *testing.T) {
	long := func(i int, prefix string) string {
		s := fmt.Sprintf("%s%d", prefix, i)
		return s + strings.Repeat("x", 512-len(s))
	}
	w := newWorld(t, audit.NewMemory())
	w.payments(3)
	w.policy.Constraints[0].Permissions[0].Actions = []string{"pay:make*"}
	w.decide()
	ann := w.as("ann")
	use := func(action string) error {
		_, err := w.engine.Use(ctx, ann, action, "pay/1")
		return err
	}
	w.must(use(long(0, "pay:make")))
	type acts struct {
		Human    identity.ID `json:"human"`
		Resource string      `json:"resource"`
		Actions  []string    `json:"actions"`
	}
	table := audit.NewTable[acts](w.store, jit.ActsKind, nil)
	for row, err := range table.Scan(ctx, "id/") {
		w.must(err)
		for i := 1; i < 1023; i++ {
			row.Value.Actions = append(row.Value.Actions, long(i, "pay:make"))
		}
		w.must(w.store.Commit(ctx, audit.Tx{Writes: []audit.Write{table.Put(row, w.store.NewEvent("test.filled", audit.Actor{}, audit.EventID{}))}}))
	}
	w.must(use(long(1023, "pay:make")))
	if err := refusedFor(use(long(1024, "pay:make")), "1024"); err != nil {
		t.Error(err)
	}
	w.must(use(long(7, "pay:make")))

	name := long(0, "role")
	many := int64(1 << 40)
	w.roles([]rbac.Role{role(name, "x:y")}, "ann", "bob", "cat")
	w.policy.Ceilings = []rbac.Ceiling{{ID: "many", Role: name, AtOnce: &many}}
	w.decide()
	_, err := w.take(w.engine, "ann", name)
	w.must(err)
	type hold struct {
		Grant    audit.ID    `json:"grant"`
		Identity identity.ID `json:"identity"`
		Role     string      `json:"role"`
		At       time.Time   `json:"at"`
		NotAfter time.Time   `json:"notAfter"`
	}
	type duty struct {
		Holds []hold `json:"holds"`
	}
	duties := audit.NewTable[duty](w.store, jit.DutyKind, nil)
	filled := func(ended bool) {
		for row, err := range duties.Scan(ctx, "id/") {
			w.must(err)
			h := row.Value.Holds[0]
			if ended {
				w.must(w.revoke("bob", jit.Grant{ID: h.Grant}))
			} else {
				h.Grant = "00000000-0000-4000-8000-000000000000" // which cannot be read, and counts
			}
			for len(row.Value.Holds) < 1023 {
				row.Value.Holds = append(row.Value.Holds, h)
			}
			w.must(w.store.Commit(ctx, audit.Tx{Writes: []audit.Write{duties.Put(row, w.store.NewEvent("test.filled", audit.Actor{}, audit.EventID{}))}}))
		}
	}
	filled(true)
	for range 2 { // the second finds it full, and looks what has ended
		_, err = w.take(w.engine, "bob", name)
		w.must(err)
	}
	filled(false)
	_, err = w.take(w.engine, "cat", name)
	w.must(err)
	if _, err := w.take(w.engine, "cat", name); refusedFor(err, "1024", "at-once/many") != nil {
		t.Error(err)
	}
}
