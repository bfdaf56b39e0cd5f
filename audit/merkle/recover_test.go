package merkle

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// unpublished returns the files of a log whose process was killed, with so many entries in tiles, and then calls of so many in the journal alone.
func unpublished(t *testing.T, origin string, key byte, published int, calls ...int) map[string][]byte {
	dir := filepath.Join(t.TempDir(), "log")
	l, err := OpenDir(dir, origin, logKey(key))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err = l.Append(t.Context(), someLeaves(0, published)); err == nil {
		err = l.Publish(t.Context())
	}
	for _, n := range calls {
		if err == nil {
			_, err = l.Append(t.Context(), someLeaves(published, n))
		}
		published += n
	}
	if err != nil {
		t.Fatal(err)
	}
	return snapshot(t, dir)
}

const firstName = journalDir + "/00000001"

// offsets returns where the records of a segment begin, and where the last ends.
func offsets(t *testing.T, segment []byte) (at []int) {
	for n := 0; ; {
		r, err := parseRecord(segment[n:])
		if at = append(at, n); err != nil {
			return at
		}
		n += r.size()
	}
}

// openedSize opens the files as a log, and returns its size.
func openedSize(t *testing.T, dir string, files map[string][]byte) (uint64, error) {
	restore(t, dir, files)
	l, err := OpenDir(dir, logOrigin, logKey(0))
	if err != nil {
		return 0, err
	}
	defer l.Close()
	size, err := l.Append(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return size, nil
}

// TestDamagedJournalIsRefused: whichever byte of a record is changed that another follows, the log does not open. Of the last one that looks as if it had
// been cut off by a crash: what had been acknowledged by it is not there then, which only a mark or somebody who has seen a checkpoint can tell.
func TestDamagedJournalIsRefused(t *testing.T) {
	shortSegments(t)
	files := unpublished(t, logOrigin, 0, 10, 1, 1, 1)
	dir := filepath.Join(memoryDir(t), "at")
	segment := files[firstName]
	at := offsets(t, segment) // the base, ten leaves, and three times one
	if len(at) != 6 {
		t.Fatal(at)
	}
	for i := 0; i < at[5]; i += 3 {
		bad := maps.Clone(files)
		bad[firstName] = bytes.Clone(segment)
		bad[firstName][i] ^= 0x40
		size, err := openedSize(t, dir, bad)
		if last := i >= at[4]; last && size != 12 || !last && !errors.Is(err, ErrRewound) {
			t.Fatalf("byte %d of %v changed: size %d, %v", i, at, size, err)
		}
	}
}

// TestJournalIsSignedFor: whoever can write the journal, and its checksums, cannot put other entries into it.
func TestJournalIsSignedFor(t *testing.T) {
	files := unpublished(t, logOrigin, 0, 10, 1, 1)
	dir := filepath.Join(memoryDir(t), "at")
	segment := files[firstName]
	at := offsets(t, segment)
	for what, edit := range map[string]func(r *record) bool{
		"another leaf":     func(r *record) bool { r.body[5] ^= 1; return true },
		"one leaf less":    func(r *record) bool { r.body, r.count = nil, 0; return true },
		"one leaf more":    func(r *record) bool { r.body = appendLeaf(r.body, nil); r.count++; return true },
		"another count":    func(r *record) bool { r.count++; return true },
		"another kind":     func(r *record) bool { r.kind = 9; return true },
		"another place":    func(r *record) bool { r.first++; return true },
		"another signed":   func(r *record) bool { r.note[len(r.note)-4] ^= 1; return true },
		"no note":          func(r *record) bool { r.note = nil; return true },
		"as it was before": func(r *record) bool { return false },
	} {
		for _, from := range at[2 : len(at)-1] {
			r, err := parseRecord(bytes.Clone(segment[from:]))
			if err != nil {
				t.Fatal(err)
			}
			last := from == at[len(at)-2]
			next := from + r.size()
			changed := edit(&r)
			bad := maps.Clone(files)
			bad[firstName] = slices.Concat(segment[:from], r.append(nil), segment[next:])
			size, err := openedSize(t, dir, bad)
			// The last checkpoint is enough, for it covers all that was before.
			if harmless := !changed || !last && (what == "no note" || what == "another signed"); harmless != (err == nil && size == 12) {
				t.Errorf("%s, the last: %v: size %d, %v", what, last, size, err)
			}
		}
	}
}

// TestWhatWasLostIsNamed: the error of a log that does not open says what has become of it.
func TestWhatWasLostIsNamed(t *testing.T) {
	shortSegments(t)
	before := unpublished(t, logOrigin, 0, 10, 1)
	now := unpublished(t, logOrigin, 0, 40, 20, 30)
	other := unpublished(t, "example.com/other", 0, 40, 20, 30)
	otherKey := unpublished(t, logOrigin, 1, 40, 20, 30)
	rolled := unpublished(t, logOrigin, 0, 300, 300, 300, 300)
	segments := 0
	for name := range rolled {
		if strings.HasPrefix(name, journalDir) {
			segments++
		}
	}
	if segments < 3 {
		t.Fatalf("only %d segments", segments)
	}
	fork := func() []byte {
		l, err := NewMemory(logOrigin, logKey(0))
		if err == nil {
			_, err = l.Append(t.Context(), someLeaves(1000, 20))
		}
		if err != nil {
			t.Fatal(err)
		}
		note, _ := l.ReadFile(checkpointFile)
		return note
	}()
	with := func(files map[string][]byte, change map[string][]byte) map[string][]byte {
		files = maps.Clone(files)
		for name, data := range change {
			if files[name] = data; data == nil {
				delete(files, name)
			}
		}
		return files
	}
	tiles := func(files map[string][]byte) map[string][]byte {
		files = maps.Clone(files)
		maps.DeleteFunc(files, func(name string, _ []byte) bool { return !strings.HasPrefix(name, "tile") && name != checkpointFile })
		return files
	}
	last := func() []byte { _, r := lastRecord(t, now[firstName]); return r.note }()
	for what, c := range map[string]struct {
		files map[string][]byte
		mark  []byte // nil for a log without one, empty for one that is not there
		is    error
		says  string
	}{
		"journal gone":             {tiles(now), nil, ErrRewound, "its journal is not there"},
		"checkpoint gone":          {with(now, map[string][]byte{checkpointFile: nil}), nil, ErrRewound, "its checkpoint is not there"},
		"journal of before":        {with(now, map[string][]byte{firstName: before[firstName]}), nil, ErrRewound, "its journal ends after 11"},
		"journal of another":       {with(now, map[string][]byte{firstName: other[firstName]}), nil, ErrForeign, "its journal"},
		"journal of another key":   {with(now, map[string][]byte{firstName: otherKey[firstName]}), nil, ErrForeign, "its journal"},
		"log of another":           {other, nil, ErrForeign, "example.com/log"},
		"log of another key":       {otherKey, nil, ErrForeign, "not signed"},
		"a segment gone":           {with(rolled, map[string][]byte{journalDir + "/00000002": nil}), nil, ErrRewound, "its journal begins after"},
		"last segment gone":        {with(rolled, map[string][]byte{segmentName(uint64(segments)): nil}), nil, ErrRewound, "which is not there"},
		"tiles of before":          {with(now, map[string][]byte{"tile/entries/000.p/40": nil}), nil, ErrRewound, "not as its checkpoint says"},
		"a file of somebody":       {with(now, map[string][]byte{journalDir + "/x": []byte("x")}), nil, ErrRewound, "no part of a log"},
		"beyond the log":           {before, last, ErrRewound, "has 11 entries, and had 90"},
		"log gone":                 {nil, last, ErrRewound, "has 0 entries, and had 90"},
		"the mark of a fork":       {now, fork, ErrForked, ""},
		"the mark of another":      {now, other[checkpointFile], ErrForeign, "its mark"},
		"a mark that is not there": {now, []byte{}, ErrRewound, "its mark is not there"},
	} {
		dir, mark := filepath.Join(t.TempDir(), "at"), filepath.Join(t.TempDir(), "mark")
		var options []DirOption
		if c.mark != nil {
			options = append(options, WithMark(mark))
		}
		if len(c.mark) > 0 {
			if err := os.WriteFile(mark, c.mark, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		restore(t, dir, c.files)
		if c.files == nil {
			os.Mkdir(dir, 0o700)
		}
		_, err := OpenDir(dir, logOrigin, logKey(0), options...)
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", what, err)
		}
		if !maps.EqualFunc(snapshot(t, dir), with(c.files, nil), bytes.Equal) {
			t.Errorf("%s: it was written to", what)
		}
	}
	if size, err := openedSize(t, filepath.Join(t.TempDir(), "at"), rolled); err != nil || size != 1200 {
		t.Errorf("size %d, %v", size, err)
	}
}

func lastRecord(t *testing.T, segment []byte) (at int, r record) {
	all := offsets(t, segment)
	at = all[len(all)-2]
	r, err := parseRecord(segment[at:])
	if err != nil {
		t.Fatal(err)
	}
	return at, r
}

// TestTwoWritersAreNoticed: where the locks do not hold, as on some network file systems, the first that finds another's checkpoint in the place of its own
// writes no more.
func TestTwoWritersAreNoticed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	l, err := OpenDir(dir, logOrigin, logKey(0))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for i := range 3 {
		if _, err := l.Append(t.Context(), someLeaves(i, 1)); err != nil {
			t.Fatal(err)
		}
		if err := l.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	fork := unpublished(t, logOrigin, 0, 0)
	other := filepath.Join(t.TempDir(), "other")
	restore(t, other, fork)
	grow(t, other, 5)
	signed, err := os.ReadFile(filepath.Join(other, checkpointFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, checkpointFile), signed, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), someLeaves(3, 1)); err != nil {
		t.Fatal(err)
	}
	if err := l.Publish(t.Context()); !errors.Is(err, ErrForked) {
		t.Errorf("publish: %v", err)
	}
	if _, err := l.Append(t.Context(), someLeaves(4, 1)); !errors.Is(err, ErrForked) {
		t.Errorf("append: %v", err)
	}
	if now, _ := os.ReadFile(filepath.Join(dir, checkpointFile)); !bytes.Equal(now, signed) {
		t.Error("it was written over")
	}
}
