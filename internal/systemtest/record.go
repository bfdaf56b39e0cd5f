package systemtest

import (
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/stream"
	"github.com/bailiwick-go/bailiwick/identity"
)

// hostsEventsStandAfterTheirCause: what a host records of a session is in the log when the system has been closed, behind the grant that it was under, on the
// node that has the log and on one that has not.
func hostsEventsStandAfterTheirCause(t *testing.T, open opener) {
	a, b := open.two(t, time.Second)
	g := a.active(time.Hour)
	for _, w := range []*world{a, b} {
		r, err := w.sys.Recorder(ctx, map[string]stream.Class{"host.typed": {Spool: 100}})
		w.must(err)
		c := w.as("maya")
		if err := r.Record(ctx, w.sys.NewEvent(identity.Caller{}, "host.opened", g.Head)); err == nil {
			t.Error("an event of nobody was taken")
		}
		for range 20 {
			w.must(r.Record(ctx, w.sys.NewEvent(c, "host.opened", g.Head)))
			w.must(r.Record(ctx, w.sys.NewEvent(c, "host.typed", g.Head)))
		}
	}
	b.must(b.sys.Close(ctx))
	a.must(a.sys.Close(ctx))
	report, err := audit.Verify(ctx, a.log, a.log.VerifierKey(), nil)
	if err != nil || report.Kinds["host.opened"] != 40 || report.Kinds["host.typed"] != 40 || report.Kinds[stream.ClosedKind] != 2 {
		t.Errorf("%+v, %v", report.Kinds, err)
	}
	r, err := merkle.NewReader(a.log, a.log.VerifierKey())
	a.must(err)
	for leaf, err := range r.Entries(report.Checkpoint, 0, report.Checkpoint.Size) {
		a.must(err)
		e, err := audit.ParseEvent(leaf)
		a.must(err)
		if strings.HasPrefix(e.Kind, "host.") && (e.Actor.ID != a.ids["maya"] || e.Cause != g.Head) {
			t.Errorf("%+v", e)
		}
	}
	if _, err := a.sys.Recorder(ctx, nil); err == nil {
		t.Error("a closed system records")
	}
}
