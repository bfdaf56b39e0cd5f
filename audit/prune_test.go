package audit

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// prunedEvents are events of which the one at the index says that what is before below may be pruned.
func prunedEvents(n, index int, below string) []Event {
	events := someEvents(n)
	events[index].Kind, events[index].Fields = PrunedKind, map[string]string{"below": below}
	events[index].ID = newEventID(events[index].Time.Add(time.Hour))
	for i := index + 1; i <= n; i++ { // later ones, with their causes
		events[i].ID = newEventID(events[i].Time.Add(time.Hour))
		events[i].Cause = events[i-2].ID
	}
	return events
}

// prune takes out of the log what is before below.
func (m mapFiles) prune(below int) {
	for n := 1; (n+1)*256 <= below; n++ {
		delete(m, fmt.Sprintf("tile/entries/%03d", n))
		delete(m, fmt.Sprintf("tile/0/%03d", n))
	}
}

// TestVerifyAPrunedLog: it verifies if an event says that it may be pruned, and what is left has no gaps but by what is missing.
func TestVerifyAPrunedLog(t *testing.T) {
	files, vkey := eventLog(t, prunedEvents(1200, 1000, "700"))
	report, err := Verify(t.Context(), files, vkey, nil)
	if err != nil || report.First != 0 {
		t.Fatal(report, err)
	}
	files.prune(700)
	report, err = Verify(t.Context(), files, vkey, nil)
	if err != nil || report.First != 512 || report.Checkpoint.Size != 1201 || report.Kinds["test.done"] != 255+1200-512 || report.Genesis.Kind != GenesisKind {
		t.Fatal(report, err)
	}
	for what, c := range map[string]struct {
		index int
		below string
		edit  func(e []Event)
		file  string // that is not there
		want  string
	}{
		"pruned further":              {1000, "767", nil, "tile/entries/002", "no event says"},
		"not as far":                  {1000, "511", nil, "", "no event says"},
		"without a number":            {1000, "0x300", nil, "", "no event says"},
		"said in the first entries":   {100, "100", nil, "", "no event says"},
		"said before":                 {600, "601", nil, "", "no event says"},
		"not done":                    {1000, "700", func(e []Event) { e[1000].Outcome = Failure }, "", "no event says"},
		"another kind":                {1000, "700", func(e []Event) { e[1000].Kind = "test.pruned" }, "", "no event says"},
		"with a hole":                 {1000, "700", nil, "tile/entries/003", ""},
		"without the first entries":   {1000, "700", nil, "tile/entries/000", ""},
		"without a tile":              {1000, "700", nil, "tile/0/003", ""},
		"a version gap":               {1000, "700", func(e []Event) { e[900].Object.Version++ }, "", "goes from version"},
		"a version as in the first":   {1000, "700", func(e []Event) { e[516].Object.Version = 1 }, "", "from version 42 to 1"},
		"a cause that is not there":   {1000, "700", func(e []Event) { e[1100].Cause = newEventID(e[0].Time.Add(2 * time.Hour)) }, "", "before its cause"},
		"an event twice":              {1000, "700", func(e []Event) { e[1100].ID = e[900].ID }, "", "twice"},
		"an event of the first twice": {1000, "700", func(e []Event) { e[1100].ID = e[3].ID }, "", "twice"},
		"a genesis":                   {1000, "700", func(e []Event) { e[600].Kind, e[600].Fields = GenesisKind, e[0].Fields }, "", "is a"},
	} {
		events := prunedEvents(1200, c.index, c.below)
		if c.edit != nil {
			c.edit(events)
		}
		files, vkey := eventLog(t, events)
		files.prune(700)
		delete(files, c.file)
		if report, err := Verify(t.Context(), files, vkey, nil); err == nil || !strings.Contains(err.Error(), c.want) || report.First != 0 {
			t.Errorf("%s: %v", what, err)
		}
	}
	events := prunedEvents(1200, 1000, "700")
	events[600].Cause, events[1100].Cause = newEventID(events[0].Time), newEventID(events[0].Time) // which may have been in what is missing
	files, vkey = eventLog(t, events)
	files.prune(700)
	if _, err := Verify(t.Context(), files, vkey, nil); err != nil {
		t.Error(err)
	}
}

// TestTraceInAPrunedLog leads as far as what is left, and says when that is not far enough.
func TestTraceInAPrunedLog(t *testing.T) {
	events := someEvents(1200)
	events[900].Cause, events[700].Cause = events[600].ID, events[9].ID
	events[600].Cause = EventID{}
	whole, vkey := eventLog(t, events)
	files := maps.Clone(whole)
	files.prune(700)
	r, _ := merkle.NewReader(files, vkey)
	cp, err := r.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	for i, first := range map[int]EventID{900: events[600].ID, 700: events[1].ID, 9: events[1].ID} {
		if found, err := Trace(r, cp, events[i].ID); err != nil || found[0].Event.ID != first || found[len(found)-1].Index != uint64(i) {
			t.Errorf("event %d: %v", i, err)
		}
	}
	for _, i := range []int{599, 400} {
		if _, err := Trace(r, cp, events[i].ID); !errors.Is(err, merkle.ErrPruned) {
			t.Errorf("event %d: %v", i, err)
		}
	}
}
