package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"pgregory.net/rapid"
)

type mapFiles map[string][]byte

func (m mapFiles) ReadFile(name string) ([]byte, error) {
	if b, ok := m[name]; ok {
		return b, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// someEvents returns a genesis and n events with causes and objects.
func someEvents(n int) []Event {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	vkey, _ := merkle.VerifierKey(logOrigin, logKey(0))
	events := []Event{{ID: newEventID(at), Origin: logOrigin, Kind: GenesisKind, Time: at, Outcome: Success,
		Fields: map[string]string{"log": vkey}}}
	for i := 1; i <= n; i++ {
		e := Event{ID: newEventID(at), Origin: logOrigin, Kind: "test.done", Time: at, Outcome: Success}
		if i > 2 {
			e.Cause = events[i-2].ID
		}
		if i%2 == 0 {
			e.Object = &Object{Kind: "thing", ID: ID(fmt.Sprint(i % 6)), Version: uint64((i-1)/6 + 1)}
		}
		events = append(events, e)
	}
	return events
}

// eventLog returns the files of a log of the events.
func eventLog(t rapid.TB, events []Event) (mapFiles, string) {
	var leaves [][]byte
	for _, e := range events {
		leaf, err := e.Leaf()
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leaf)
	}
	return leafLog(t, leaves)
}

func leafLog(t rapid.TB, leaves [][]byte) (mapFiles, string) {
	l, err := merkle.NewMemory(logOrigin, logKey(0))
	if err == nil {
		_, err = l.Append(context.Background(), leaves)
	}
	if err != nil {
		t.Fatal(err)
	}
	return filesOf(t, l, len(leaves)), l.VerifierKey()
}

const checkpointFile = "checkpoint"

// filesOf returns the files of the log, whose size is given.
func filesOf(t rapid.TB, f merkle.Files, size int) mapFiles {
	files := mapFiles{}
	for name := range merkle.Paths(uint64(size)) {
		files[name] = nil
	}
	files[checkpointFile] = nil
	for name := range files {
		var err error
		if files[name], err = f.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestVerifyReports(t *testing.T) {
	events := someEvents(600)
	files, vkey := eventLog(t, events)
	report, err := Verify(t.Context(), files, vkey, nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Checkpoint.Size != 601 || report.Genesis.ID != events[0].ID ||
		!maps.Equal(report.Kinds, map[string]int{GenesisKind: 1, "test.done": 600}) {
		t.Errorf("%+v", report)
	}
}

func TestVerifyFindsAnyFlippedByte(t *testing.T) {
	logs := map[int]mapFiles{}
	var vkey string
	for _, n := range []int{0, 3, 255, 299, 511} {
		logs[n], vkey = eventLog(t, someEvents(n))
		if _, err := Verify(t.Context(), logs[n], vkey, nil); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		files := maps.Clone(logs[rapid.SampledFrom(slices.Sorted(maps.Keys(logs))).Draw(t, "log")])
		names := slices.Sorted(maps.Keys(files))
		name := rapid.SampledFrom(names).Draw(t, "file")
		data := slices.Clone(files[name])
		switch rapid.IntRange(0, 4).Draw(t, "change") {
		case 0:
			data[rapid.IntRange(0, len(data)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			files[name] = data
		case 1:
			files[name] = data[:rapid.IntRange(0, len(data)-1).Draw(t, "length")]
		case 2:
			files[name] = append(data, rapid.Byte().Draw(t, "more"))
		case 3:
			delete(files, name)
		case 4:
			other := rapid.SampledFrom(names).Draw(t, "other")
			if other == name || slices.Equal(files[other], data) {
				t.Skip("no change")
			}
			files[name], files[other] = files[other], data
		}
		if report, err := Verify(t.Context(), files, vkey, nil); err == nil || report.Kinds != nil || report.Checkpoint.Size != 0 {
			t.Fatalf("a log with a change in %s verified", name)
		}
	})
}

func TestVerifyFindsFalseTilesOverTrueEntries(t *testing.T) {
	files, vkey := eventLog(t, someEvents(599))
	for name := range files {
		if name == checkpointFile || strings.HasPrefix(name, "tile/entries/") {
			continue
		}
		bad := maps.Clone(files)
		bad[name] = slices.Clone(bad[name])
		bad[name][0] ^= 1
		if _, err := Verify(t.Context(), bad, vkey, nil); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVerifyFindsOtherEntriesWithTheirTiles(t *testing.T) {
	files, vkey := eventLog(t, someEvents(299))
	other, _ := eventLog(t, someEvents(299))
	other[checkpointFile] = files[checkpointFile]
	if _, err := Verify(t.Context(), other, vkey, nil); err == nil {
		t.Error("entries that the checkpoint does not cover verified")
	}
}

func TestVerifyRefusesEventsThatCannotBe(t *testing.T) {
	for what, change := range map[string]func(e []Event) []Event{
		"an event twice":       func(e []Event) []Event { return append(e, e[3]) },
		"a version gap":        func(e []Event) []Event { e[2].Object.Version = 2; return e },
		"a version twice":      func(e []Event) []Event { e[8].Object.Version = 1; return e },
		"a cause after":        func(e []Event) []Event { e[3].Cause = e[7].ID; return e },
		"a cause elsewhere":    func(e []Event) []Event { e[3].Cause = newEventID(e[0].Time); return e },
		"a second genesis":     func(e []Event) []Event { e[5].Kind, e[5].Fields = GenesisKind, e[0].Fields; return e },
		"no genesis":           func(e []Event) []Event { return e[1:] },
		"a late genesis":       func(e []Event) []Event { e[0], e[1] = e[1], e[0]; return e },
		"a foreign genesis":    func(e []Event) []Event { e[0].Fields = map[string]string{"log": "x"}; return e },
		"a foreign origin":     func(e []Event) []Event { e[4].Origin = "example.com/other"; return e },
		"nothing":              func(e []Event) []Event { return nil },
		"a genesis of nothing": func(e []Event) []Event { e[0].Fields = nil; return e },
	} {
		files, vkey := eventLog(t, change(someEvents(20)))
		if _, err := Verify(t.Context(), files, vkey, nil); err == nil {
			t.Errorf("a log with %s verified", what)
		}
	}
	e := someEvents(1)
	leaf, _ := e[0].Leaf()
	for _, other := range []string{"", "text", " ", string(leaf) + " "} {
		files, vkey := leafLog(t, [][]byte{leaf, []byte(other)})
		if _, err := Verify(t.Context(), files, vkey, nil); err == nil {
			t.Errorf("a log with the entry %.20q verified", other)
		}
	}
}

type panicFiles struct{ mapFiles }

func (p panicFiles) ReadFile(name string) ([]byte, error) {
	if name != checkpointFile {
		panic("boom")
	}
	return p.mapFiles.ReadFile(name)
}

func TestVerifyNeverSaysYesAfterAPanic(t *testing.T) {
	files, vkey := eventLog(t, someEvents(3))
	if report, err := Verify(t.Context(), panicFiles{files}, vkey, nil); err == nil || report.Checkpoint.Size != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	if _, err := Verify(t.Context(), nil, vkey, nil); err == nil {
		t.Error("no files verified")
	}
}

func TestVerifyGoesOnWhileTheLogGrows(t *testing.T) {
	events := someEvents(600)
	before, vkey := eventLog(t, events[:300])
	files, _ := eventLog(t, events)
	for name, data := range before {
		if !strings.Contains(name, "/001.p/") { // which gave way to the full ones
			files[name] = data // and so the checkpoint, which was read before the log grew
		}
	}
	if report, err := Verify(t.Context(), files, vkey, nil); err != nil || report.Checkpoint.Size != 300 {
		t.Errorf("size %d: %v", report.Checkpoint.Size, err)
	}
}

func TestTraceLeadsToTheFirstCause(t *testing.T) {
	events := someEvents(700)
	files, vkey := eventLog(t, events)
	r, _ := merkle.NewReader(files, vkey)
	cp, err := r.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 1, 3, 4, 699, 700} {
		trace, err := Trace(r, cp, events[i].ID)
		if err != nil {
			t.Fatal(err)
		}
		for k, e := range slices.Backward(trace) {
			if want := i - 2*(len(trace)-1-k); e.Index != uint64(want) || e.Event.ID != events[want].ID {
				t.Fatalf("entry %d of the trace of %d is at %d", k, i, e.Index)
			}
		}
		if !trace[0].Event.Cause.IsZero() {
			t.Errorf("the trace of %d ends early", i)
		}
	}
	for _, id := range []EventID{{}, newEventID(events[0].Time)} {
		if _, err := Trace(r, cp, id); !errors.Is(err, ErrNotFound) {
			t.Errorf("trace of %q: %v", id, err)
		}
	}
	events[699].Cause = newEventID(events[0].Time)
	events[696].Origin = "example.com/other"
	files, _ = eventLog(t, events)
	r, _ = merkle.NewReader(files, vkey)
	cp, _ = r.Checkpoint()
	if _, err := Trace(r, cp, events[699].ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("a trace without its cause: %v", err)
	}
	if _, err := Trace(r, cp, events[697].ID); err != nil {
		t.Error(err)
	}
	if _, err := Trace(r, cp, events[700].ID); err == nil {
		t.Error("a trace through an event of another origin")
	}
	bad := maps.Clone(files)
	bad["tile/entries/001"] = bytesFlip(bad["tile/entries/001"])
	r, _ = merkle.NewReader(mapFiles(bad), vkey)
	if _, err := Trace(r, cp, events[700].ID); err == nil {
		t.Error("a trace through an entry that is not in the tree")
	}
}

func bytesFlip(b []byte) []byte {
	b = slices.Clone(b)
	b[len(b)/2] ^= 1
	return b
}
