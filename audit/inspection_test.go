package audit_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// scratch returns a directory for one check of a property.
func scratch(t *rapid.T) string {
	dir := must(os.MkdirTemp("", "scratch-"))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "scratch")
}

// through goes on with an inspection, which is interrupted up to so many times anywhere, until it has ended.
func (s *system) through(t *rapid.T, dir string, interruptions int) (found []finding, read uint64) {
	defer s.on(nil)
	for {
		left := rapid.IntRange(1, 60).Draw(t, "steps")
		s.on(func(context.Context, string) error {
			time.Sleep(time.Duration(left%3) * time.Second) // so that it saves now and then
			if left--; left <= 0 && interruptions > 0 {
				interruptions--
				return errInjected
			}
			return nil
		})
		var from uint64
		all, err := s.nodes[1].VerifyState(context.Background(), s.r, audit.Inspection{Scratch: dir, Every: time.Second, Progress: func(p audit.Progress) {
			if p.Phase == audit.PhaseLog && p.Done == p.Total {
				from = p.Total
			}
			if p.Done > p.Total {
				t.Fatal("done", p)
			}
		}})
		read = max(read, from)
		if err == nil {
			for _, f := range all {
				found = append(found, finding{f.Kind, f.ID, f.Problem})
			}
			return setOf(found), read
		}
		if !errors.Is(err, errInjected) || len(all) > 0 {
			t.Fatal(all, err)
		}
	}
}

// TestInspectionsGoOnFromEachOther: an inspection reads the log from where the one before it has, finds nothing as long as nothing was done and
// otherwise what was done, and is interrupted anywhere without a difference.
func TestInspectionsGoOnFromEachOther(t *testing.T) {
	names := slices.Sorted(maps.Keys(attacks))
	for part := range 4 {
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				rapid.SyncTest(t, func(t *rapid.T) {
					s, dir, before := newSystem(), scratch(t), uint64(0)
					for range rapid.IntRange(0, 3).Draw(t, "nights") {
						for range rapid.IntRange(0, 8).Draw(t, "acts") {
							s.act(t)
						}
						size := must(s.r.Checkpoint()).Size
						found, read := s.through(t, dir, rapid.IntRange(0, 3).Draw(t, "interruptions"))
						if len(found) > 0 || read != size-before {
							t.Fatalf("nothing was done: %v; it has read %d entries, not %d", found, read, size-before)
						}
						before = size
					}
					for range rapid.IntRange(1, 8).Draw(t, "acts") {
						s.act(t)
					}
					name := rapid.SampledFrom(names).Draw(t, "what was done")
					o := some(t, "object", s.objects(func(o object) bool { return len(s.records[o].Bytes) > 0 }))
					want := setOf(attacks[name](t, s, o))
					for _, night := range []string{"the first night", "the next"} {
						found, _ := s.through(t, dir, rapid.IntRange(0, 3).Draw(t, "interruptions"))
						if strings.Contains(name, "back") {
							found = slices.DeleteFunc(found, func(f finding) bool { return f.Problem == audit.Diverted })
						}
						if !slices.Equal(found, want) {
							t.Fatalf("%s of %v it is found %v, not %v", night, o, found, want)
						}
					}
				})
			})
		})
	}
}

// TestAQuietLedgerLeavesNothingToLookAt: what was not changed meanwhile costs no question of its own.
func TestAQuietLedgerLeavesNothingToLookAt(t *testing.T) {
	s := newSystem()
	for i := range 100 {
		must(0, s.nodes[0].put(audit.ID(fmt.Sprint(i)), i))
	}
	must(0, s.relay.Flush(t.Context()))
	s.on(func(_ context.Context, op string) error {
		if strings.HasPrefix(op, "load") {
			t.Error(op)
		}
		return nil
	})
	phases := map[string]uint64{}
	found, err := s.nodes[1].VerifyState(t.Context(), s.r, audit.Inspection{Progress: func(p audit.Progress) { phases[p.Phase] = p.Done }})
	if err != nil || len(found) > 0 || phases[audit.PhaseRecords] != 100 || phases[audit.PhaseObjects] != 0 || phases[audit.PhaseIndex] != 0 {
		t.Error(found, err, phases)
	}
	if _, ok := phases[audit.PhaseDoubts]; ok {
		t.Error("there were doubts")
	}
}

// interrupted leaves a directory in the middle of an inspection, or at its end.
func interrupted(t testing.TB, s *system, dir string, after int) {
	s.on(func(context.Context, string) error {
		time.Sleep(time.Millisecond)
		if after--; after == 0 {
			return errInjected
		}
		return nil
	})
	defer s.on(nil)
	if _, err := s.nodes[0].VerifyState(t.Context(), s.r, audit.Inspection{Scratch: dir, Every: 1}); (err == nil) != (after > 0) {
		t.Fatal(err)
	}
}

// TestADamagedScratchDirectoryIsRefused: no byte of what was left can be changed, cut off or removed without an error.
func TestADamagedScratchDirectoryIsRefused(t *testing.T) {
	s := newSystem()
	for i := range 4 {
		must(0, s.nodes[0].put(audit.ID(fmt.Sprint(i)), i))
	}
	must(0, s.relay.Flush(t.Context()))
	must(0, s.nodes[0].put("late", 100))
	for _, after := range []int{5, 11, 26, 1000} {
		dir := filepath.Join(t.TempDir(), "scratch")
		interrupted(t, s, dir, after)
		for _, f := range must(os.ReadDir(dir)) {
			name := filepath.Join(dir, f.Name())
			was := must(os.ReadFile(name))
			if f.Name() == "lock" || len(was) == 0 {
				continue
			}
			for _, spoil := range []func() error{
				func() error { return os.WriteFile(name, was[:len(was)-1], 0o600) },
				func() error { return os.WriteFile(name, append(was[:len(was):len(was)], 0), 0o600) },
				func() error { b := slices.Clone(was); b[len(b)/2] ^= 4; return os.WriteFile(name, b, 0o600) },
				func() error { b := slices.Clone(was); b[0] ^= 1; return os.WriteFile(name, b, 0o600) },
				func() error { b := slices.Clone(was); b[len(b)-1] ^= 1; return os.WriteFile(name, b, 0o600) },
			} {
				other := filepath.Join(t.TempDir(), "copy")
				must(0, spoil())
				must(0, os.CopyFS(other, os.DirFS(dir)))
				must(0, os.WriteFile(name, was, 0o600))
				found, err := s.nodes[1].VerifyState(t.Context(), s.r, audit.Inspection{Scratch: other})
				if !errors.Is(err, audit.ErrSeal) || len(found) > 0 {
					if strings.HasPrefix(f.Name(), "tuples-") && err == nil && !counted(t, s, dir, f.Name()) {
						continue
					}
					t.Errorf("after %d: %s: %v, %v", after, f.Name(), found, err)
				}
			}
		}
	}
}

// counted reports whether an inspection needs a file of the directory.
func counted(t testing.TB, s *system, dir, name string) bool {
	other := filepath.Join(t.TempDir(), "without")
	must(0, os.CopyFS(other, os.DirFS(dir)))
	must(0, os.Remove(filepath.Join(other, name)))
	_, err := s.nodes[1].VerifyState(t.Context(), s.r, audit.Inspection{Scratch: other})
	return err != nil
}

// TestAForeignScratchDirectoryIsRefused: what another tenant left, or another key sealed, or what is of another log.
func TestAForeignScratchDirectoryIsRefused(t *testing.T) {
	s := newSystem()
	must(0, s.nodes[0].put("x", 1))
	must(0, s.relay.Flush(t.Context()))
	dir := filepath.Join(t.TempDir(), "scratch")
	interrupted(t, s, dir, 1000)

	forked := newSystem()
	must(0, forked.nodes[0].put("x", 1))
	must(0, forked.relay.Flush(t.Context()))
	empty := newSystem()
	unkeyed := open(s.books, origin, otherKey)
	for what, check := range map[string]func() ([]audit.Finding, error){
		"another log": func() ([]audit.Finding, error) {
			return forked.nodes[0].VerifyState(t.Context(), forked.r, audit.Inspection{Scratch: dir})
		},
		"a log that went back": func() ([]audit.Finding, error) {
			return empty.nodes[0].VerifyState(t.Context(), empty.r, audit.Inspection{Scratch: dir})
		},
		"another key": func() ([]audit.Finding, error) {
			return unkeyed.VerifyState(t.Context(), s.r, audit.Inspection{Scratch: dir})
		},
	} {
		if found, err := check(); !errors.Is(err, audit.ErrSeal) || len(found) > 0 {
			t.Error(what, found, err)
		}
	}
	elsewhere := open(newBooks(), "example.com/other", sealKey)
	log := must(merkle.NewMemory("example.com/other", signKey))
	r := must(merkle.NewReader(log, log.VerifierKey()))
	if found, err := elsewhere.VerifyState(t.Context(), r, audit.Inspection{Scratch: dir}); !errors.Is(err, audit.ErrSeal) || len(found) > 0 {
		t.Error("another tenant", found, err)
	}
	if _, err := elsewhere.VerifyState(t.Context(), s.r, audit.Inspection{}); err == nil {
		t.Error("the log is another tenant's")
	}
}

// TestNoFaultOfAnInspectionIsAYes: a panic and a context that is done are errors, at any step.
func TestNoFaultOfAnInspectionIsAYes(t *testing.T) {
	s := newSystem()
	for i := range 5 {
		must(0, s.nodes[0].put(audit.ID(fmt.Sprint(i)), i))
	}
	must(0, s.relay.Flush(t.Context()))
	must(0, s.nodes[0].put("late", 100))
	faults := map[string]func(cancel func()) error{
		"panic":  func(func()) error { panic("the ledger") },
		"cancel": func(cancel func()) error { cancel(); return nil },
		"error":  func(func()) error { return errInjected },
	}
	for name, fault := range faults {
		for step := 1; ; step++ {
			ctx, cancel := context.WithCancel(t.Context())
			left := step
			s.on(func(context.Context, string) error {
				if left--; left == 0 {
					return fault(cancel)
				}
				return nil
			})
			found, err := s.nodes[1].VerifyState(ctx, s.r, audit.Inspection{})
			cancel()
			if len(found) > 0 || left <= 0 && err == nil || left > 0 && err != nil {
				t.Fatal(name, step, found, err)
			}
			if left > 0 {
				break
			}
		}
	}
	s.on(nil)
	if _, err := s.nodes[1].VerifyState(t.Context(), s.r, audit.Inspection{Progress: func(audit.Progress) { panic("the host") }}); err == nil {
		t.Error("a panic of the host")
	}
	if _, err := s.nodes[1].VerifyState(t.Context(), nil, audit.Inspection{}); err == nil {
		t.Error("no log")
	}
}

// TestMoreFindingsThanAreReturnedAreAnError: the first ones come with it.
func TestMoreFindingsThanAreReturnedAreAnError(t *testing.T) {
	s := newSystem()
	for i := range audit.MaxFindings + 10 {
		s.events = append(s.events, audit.SealedEvent{ID: must(audit.ParseEventID(fmt.Sprintf("00000000-0000-7000-8000-%012d", i))), Bytes: []byte("{}")})
	}
	dir := filepath.Join(t.TempDir(), "scratch")
	found, err := s.nodes[1].VerifyState(t.Context(), s.r, audit.Inspection{Scratch: dir})
	if !errors.Is(err, audit.ErrMoreFindings) || len(found) != audit.MaxFindings {
		t.Fatal(len(found), err)
	}
	s.events = nil
	if found, err := s.nodes[1].VerifyState(t.Context(), s.r, audit.Inspection{Scratch: dir}); err != nil || len(found) > 0 {
		t.Error("it was mended:", len(found), err)
	}
}

// TestAVersionThatNeverReachedTheLogIsFoundForGood: at each inspection, although the record is as was last told.
func TestAVersionThatNeverReachedTheLogIsFoundForGood(t *testing.T) {
	s := newSystem()
	for i := range 3 {
		must(0, s.nodes[0].put("x", i))
	}
	s.behind(func() { s.events = slices.Delete(s.events, 1, 2) })
	must(0, s.relay.Flush(t.Context()))
	dir := filepath.Join(t.TempDir(), "scratch")
	for night := range 3 {
		found, err := s.nodes[1].VerifyState(t.Context(), s.r, audit.Inspection{Scratch: dir})
		if err != nil || len(found) != 1 || found[0].ID != "x" || found[0].Problem != audit.Untold {
			t.Error(found, err)
		}
		must(0, s.nodes[0].put("y", 1000+night))
		must(0, s.relay.Flush(t.Context()))
	}
}

// tired are a log's files, of which so many can be read.
type tired struct {
	merkle.Files
	left int
}

func (f *tired) ReadFile(name string) ([]byte, error) {
	if f.left--; f.left < 0 {
		return nil, errInjected
	}
	return f.Files.ReadFile(name)
}

// TestReadingTheLogGoesOnWhereItWas: each entry is told once, however often reading it is interrupted.
func TestReadingTheLogGoesOnWhereItWas(t *testing.T) {
	s := newSystem()
	for i := range 3000 {
		must(0, s.nodes[0].put(audit.ID(fmt.Sprint(i%50)), i))
	}
	must(0, s.relay.Flush(t.Context()))
	files, dir, times := &tired{Files: s.log}, filepath.Join(t.TempDir(), "scratch"), 0
	for ; ; times++ {
		files.left = 9
		r := must(merkle.NewReader(files, s.log.VerifierKey()))
		found, err := s.nodes[1].VerifyState(t.Context(), r, audit.Inspection{Scratch: dir, Every: 1})
		if err == nil && len(found) == 0 {
			break
		}
		if !errors.Is(err, errInjected) || times > 100 {
			t.Fatal(times, found, err)
		}
	}
	if times == 0 {
		t.Error("it was not interrupted")
	}
}
