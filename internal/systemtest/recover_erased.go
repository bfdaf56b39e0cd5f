package systemtest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// erasedStaysErased: whoever was erased since the backup was made is erased again, and who was held is held.
func erasedStaysErased(t *testing.T, m *Machine) {
	if m.Log == nil {
		return
	}
	w := on(t, m)
	z := &zelda{world: w}
	root := w.as("root")
	id, err := identity.New(identity.KindHuman, "zelda", "sso", "oncall")
	w.must(err)
	id.DisplayName = "Z. Quux"
	id, err = w.sys.Lifecycle().Register(ctx, root, id)
	w.must(err)
	_, _, err = w.sys.Lifecycle().Apply(ctx, root, id.ID, lifecycle.Activate)
	w.must(err)
	_, err = w.sys.JIT().Request(ctx, w.as("zelda"), jit.Request{Role: "dba", Scope: []string{"db/**"}, Reason: "her sister's birthday", Duration: rbac.Duration(time.Hour)})
	w.must(err)
	r, err := w.sys.Recorder(ctx, nil)
	w.must(err)
	e := w.sys.NewEvent(w.as("zelda"), "test.said", audit.EventID{})
	w.must(errors.Join(e.Keep("words", []byte("zelda says")), r.Record(ctx, e)))
	_, err = w.sys.Leave(ctx, root, id.ID)
	w.must(err)
	w.must(w.sys.Flush(ctx))
	w.off(m)
	backup := m.Database(t)
	w.reopen(m)
	w.open()
	root = w.as("root")
	ravi := w.as("ravi")
	w.must(w.sys.Lifecycle().Hold(ctx, root, w.ids["maya"], "case/1"))
	for _, c := range []identity.Caller{root, ravi} {
		_, err = w.sys.Erase(ctx, c, id.ID)
		w.must(err)
	}
	w.must(w.sys.Flush(ctx))
	w.off(m)
	newest := m.Log(t) // which goes back with a database that it is in
	backup()
	newest()
	w.reopen(m)
	if there := z.ledgerText(); !strings.Contains(there, "birthday") || !strings.Contains(there, "Quux") {
		t.Fatal("the backup has nothing that was erased")
	}
	_, err = bailiwick.Recover(ctx, w.cfg, bailiwick.Recovery{})
	w.must(err)
	m.Close(t)
	w.reopen(m)
	w.open()
	there, _ := z.text()
	for _, word := range known {
		if strings.Contains(there, word) {
			t.Errorf("%q is back", word)
		}
	}
	state, err := w.sys.Lifecycle().State(ctx, id.ID)
	if err != nil || state != lifecycle.Deleted {
		t.Error(state, err)
	}
	if holds, err := w.sys.Lifecycle().Holds(ctx, w.ids["maya"]); err != nil || len(holds) != 1 || holds[0].Matter != "case/1" {
		t.Error(holds, err)
	}
	if _, err := w.sys.Opening(ctx, e.Beside["words"]); !errors.Is(err, audit.ErrNotFound) {
		t.Error(err)
	}
	w.whole()
	w.off(m)
}
