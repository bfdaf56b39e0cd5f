package systemtest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// A Machine is where a system's database and its log are. Of either it can be gone back to an earlier state while nothing is open.
type Machine struct {
	Open     func(t testing.TB) (audit.Rewinder, merkle.Log) // as a new process does
	Close    func(t testing.TB)                              // what is open
	Database func(t testing.TB) (restore func())             // keeps the database as it is
	Log      func(t testing.TB) (restore func())             // keeps the log as it is; nil if it is in the database
	// DatabaseOnline and LogOnline are whether they can be kept while a system is running.
	DatabaseOnline, LogOnline bool
	// Cuts is at each how many writes a recovery is interrupted. Zero is at each.
	Cuts int
}

// Origin and LogKey are those of the logs that a [Machine] opens.
const Origin = "test.example/system"

// LogKey is the key of the logs that a [Machine] opens.
func LogKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)) }

// Memory is a machine that keeps everything in memory.
func Memory() *Machine {
	db, files := &replayed{}, &rewoundStore{}
	db.back(0)
	files.back(0)
	return &Machine{
		Open: func(t testing.TB) (audit.Rewinder, merkle.Log) {
			l, err := merkle.OpenStore(context.Background(), files, Origin, LogKey())
			if err != nil {
				t.Fatal(err)
			}
			return db, l
		},
		Close:    func(testing.TB) {},
		Database: func(testing.TB) func() { n := db.len(); return func() { db.back(n) } },
		Log:      func(testing.TB) func() { n := files.len(); return func() { files.back(n) } },

		DatabaseOnline: true, LogOnline: true,
	}
}

// Directory is a machine whose database is in memory and whose log is a directory.
func Directory(t testing.TB) *Machine {
	m := Memory()
	memory := m.Open
	m.OnDirectory(t, func(t testing.TB) audit.Rewinder {
		l, _ := memory(t)
		return l
	})
	return m
}

// OnDirectory makes m open its ledger by that function, and its log in a directory.
func (m *Machine) OnDirectory(t testing.TB, ledger func(t testing.TB) audit.Rewinder) {
	dir, copies := filepath.Join(t.TempDir(), "log"), 0
	var log *merkle.Dir
	closes := m.Close
	m.Open = func(t testing.TB) (audit.Rewinder, merkle.Log) {
		l := ledger(t)
		var err error
		if log, err = merkle.OpenDir(dir, Origin, LogKey()); err != nil {
			t.Fatal(err)
		}
		return l, log
	}
	m.Close = func(t testing.TB) {
		if log != nil {
			log.Close()
			log = nil
		}
		closes(t)
	}
	m.Log = func(t testing.TB) func() {
		copies++
		kept := fmt.Sprint(dir, ".", copies)
		copyDir(t, kept, dir)
		return func() {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			copyDir(t, dir, kept)
		}
	}
	m.LogOnline = false
}

func copyDir(t testing.TB, to, from string) {
	err := os.MkdirAll(to, 0o700)
	if err == nil {
		err = os.CopyFS(to, os.DirFS(from))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A replayed ledger is one in memory that can go back to any earlier state.
type replayed struct {
	mu   sync.Mutex
	now  audit.Rewinder
	done []func(l audit.Rewinder) error
	all  [][]func(l audit.Rewinder) error // of every history, so that a state of an earlier one can be gone back to
}

func (r *replayed) ledger() audit.Rewinder {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *replayed) do(step func(l audit.Rewinder) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := step(r.now)
	if err == nil {
		r.done = append(r.done[:len(r.done):len(r.done)], step)
	}
	return err
}

// len names the state that the ledger is in.
func (r *replayed) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, r.done)
	return len(r.all)
}

// back goes back to the state that len has named.
func (r *replayed) back(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now, r.done = audit.NewMemory().(audit.Rewinder), nil
	if n > 0 {
		r.done = r.all[n-1]
	}
	for _, step := range r.done {
		if err := step(r.now); err != nil {
			panic(err)
		}
	}
}

func (r *replayed) Load(ctx context.Context, kind audit.Kind, id audit.ID) (audit.Record, error) {
	return r.ledger().Load(ctx, kind, id)
}

func (r *replayed) Commit(ctx context.Context, c audit.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.do(func(l audit.Rewinder) error { return l.Commit(context.Background(), c) })
}

func (r *replayed) Scan(ctx context.Context, kind audit.Kind, from, to audit.Key) iter.Seq2[audit.Record, error] {
	return r.ledger().Scan(ctx, kind, from, to)
}

func (r *replayed) Pending(ctx context.Context, n int) iter.Seq2[audit.SealedEvent, error] {
	return r.ledger().Pending(ctx, n)
}

func (r *replayed) Marked(ctx context.Context, from uint64) iter.Seq2[audit.MarkedEvent, error] {
	return r.ledger().Marked(ctx, from)
}

func (r *replayed) Unmark(ctx context.Context, from uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.do(func(l audit.Rewinder) error { return l.Unmark(context.Background(), from) })
}

// A rewoundStore is the store of a log that can go back to any earlier state.
type rewoundStore struct {
	mu    sync.Mutex
	now   merkle.Store
	swaps []swapped
	all   [][]swapped
}

type swapped struct {
	head  []byte
	files []merkle.File
}

func (s *rewoundStore) ReadFile(name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.ReadFile(name)
}

func (s *rewoundStore) Swap(ctx context.Context, head []byte, files []merkle.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.now.Swap(ctx, head, files)
	if err == nil {
		step := swapped{head: bytes.Clone(head)}
		for _, f := range files {
			step.files = append(step.files, merkle.File{Name: f.Name, Data: bytes.Clone(f.Data)})
		}
		s.swaps = append(s.swaps[:len(s.swaps):len(s.swaps)], step)
	}
	return err
}

func (s *rewoundStore) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, s.swaps)
	return len(s.all)
}

func (s *rewoundStore) back(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.swaps = merkle.NewMemoryStore(), nil
	if n > 0 {
		s.swaps = s.all[n-1]
	}
	for _, step := range s.swaps {
		if err := s.now.Swap(context.Background(), step.head, step.files); err != nil {
			panic(err)
		}
	}
}
