package merkletest

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

func TestMemoryStore(t *testing.T) {
	TestStore(t, func(*testing.T) (merkle.Store, func() merkle.Store) {
		s := merkle.NewMemoryStore()
		return s, func() merkle.Store { return s }
	})
}

func TestStoreLog(t *testing.T) {
	TestLog(t, func(t *testing.T) merkle.Log {
		l, err := merkle.OpenStore(t.Context(), merkle.NewMemoryStore(), "example.com/log", storeKey)
		if err != nil {
			t.Fatal(err)
		}
		return l
	})
}

// A wrongStore does something else than the store that it stands before.
type wrongStore struct {
	merkle.Store
	swap func(s merkle.Store, ctx context.Context, head []byte, files []merkle.File) error
	read func(s merkle.Store, name string) ([]byte, error)
}

func (w *wrongStore) Swap(ctx context.Context, head []byte, files []merkle.File) error {
	if w.swap == nil {
		return w.Store.Swap(ctx, head, files)
	}
	return w.swap(w.Store, ctx, head, files)
}

func (w *wrongStore) ReadFile(name string) ([]byte, error) {
	if w.read == nil {
		return w.Store.ReadFile(name)
	}
	return w.read(w.Store, name)
}

// now is what is stored as the head.
func now(s merkle.Store) []byte {
	head, err := s.ReadFile(merkle.HeadFile)
	if err != nil {
		return nil
	}
	return head
}

func TestWrongStoresFail(t *testing.T) {
	var mu sync.Mutex
	read := map[string][]byte{}
	given := map[string][]byte{}
	wrong := map[string]struct {
		store wrongStore
		fail  string // the case that must find it
	}{
		"says that it swapped, and did not": {wrongStore{swap: func(s merkle.Store, ctx context.Context, head []byte, files []merkle.File) error {
			if len(now(s)) > 0 && !bytes.Equal(now(s), head) {
				return nil
			}
			return s.Swap(ctx, head, files)
		}}, "compare"},
		"loses a swap": {wrongStore{swap: func(s merkle.Store, ctx context.Context, head []byte, files []merkle.File) error {
			if bytes.Contains(head, []byte("5")) {
				return nil
			}
			return s.Swap(ctx, head, files)
		}}, "last"},
		"does not compare": {wrongStore{swap: func(s merkle.Store, ctx context.Context, _ []byte, files []merkle.File) error {
			return s.Swap(ctx, now(s), files)
		}}, "compare"},
		"compares the beginning": {wrongStore{swap: func(s merkle.Store, ctx context.Context, head []byte, files []merkle.File) error {
			if n := now(s); len(head) > 0 && bytes.HasPrefix(n, head) {
				head = n
			}
			return s.Swap(ctx, head, files)
		}}, "compare"},
		"takes no head for any": {wrongStore{swap: func(s merkle.Store, ctx context.Context, head []byte, files []merkle.File) error {
			if head == nil {
				head = now(s)
			}
			return s.Swap(ctx, head, files)
		}}, "compare"},
		"stores what it refuses": {wrongStore{swap: func(s merkle.Store, ctx context.Context, head []byte, files []merkle.File) error {
			err := s.Swap(ctx, head, files)
			if err != nil {
				s.Swap(ctx, now(s), files[:1])
			}
			return err
		}}, "compare"},
		"compares before it swaps": {wrongStore{swap: func(s merkle.Store, ctx context.Context, head []byte, files []merkle.File) error {
			if !bytes.Equal(now(s), head) {
				return merkle.ErrMoved
			}
			time.Sleep(time.Millisecond) // others come between
			for range 100 {
				if s.Swap(ctx, now(s), files) == nil {
					return nil
				}
			}
			return merkle.ErrMoved
		}}, "race"},
		"swaps one file after the other": {wrongStore{swap: func(s merkle.Store, ctx context.Context, head []byte, files []merkle.File) error {
			if !bytes.Equal(now(s), head) {
				return merkle.ErrMoved
			}
			for i := range files {
				time.Sleep(100 * time.Microsecond)
				if err := s.Swap(ctx, now(s), files[i:i+1]); err != nil {
					return err
				}
			}
			return nil
		}}, "whole"},
		"reads what was once": {wrongStore{read: func(s merkle.Store, name string) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			if b, ok := read[name]; ok {
				return bytes.Clone(b), nil
			}
			b, err := s.ReadFile(name)
			if err == nil {
				read[name] = bytes.Clone(b)
			}
			return b, err
		}}, "last"},
		"has an empty file for a missing one": {wrongStore{read: func(s merkle.Store, name string) ([]byte, error) {
			b, err := s.ReadFile(name)
			if err != nil && name != merkle.HeadFile {
				return nil, nil
			}
			return b, err
		}}, "missing"},
		"stores an empty file": {wrongStore{
			swap: func(s merkle.Store, ctx context.Context, head []byte, files []merkle.File) error {
				files = slices.Clone(files)
				for i := range files {
					if len(files[i].Data) == 0 {
						files[i].Data = []byte("none")
					}
				}
				return s.Swap(ctx, head, files)
			},
			read: func(s merkle.Store, name string) ([]byte, error) {
				b, err := s.ReadFile(name)
				if string(b) == "none" {
					b = nil
				}
				return b, err
			},
		}, "takes away"},
		"takes nothing away": {wrongStore{swap: func(s merkle.Store, ctx context.Context, head []byte, files []merkle.File) error {
			return s.Swap(ctx, head, slices.DeleteFunc(slices.Clone(files), func(f merkle.File) bool { return len(f.Data) == 0 }))
		}}, "takes away"},
		"takes away from another head": {wrongStore{swap: func(s merkle.Store, ctx context.Context, head []byte, files []merkle.File) error {
			err := s.Swap(ctx, head, files)
			if err != nil && len(files[0].Data) == 0 {
				s.Swap(ctx, now(s), files)
			}
			return err
		}}, "takes away"},
		"cuts what is large": {wrongStore{swap: func(s merkle.Store, ctx context.Context, head []byte, files []merkle.File) error {
			cut := append([]merkle.File(nil), files...)
			for i := range cut {
				cut[i].Data = cut[i].Data[:min(len(cut[i].Data), 1<<24)]
			}
			return s.Swap(ctx, head, cut)
		}}, "sizes"},
		"ignores the context": {wrongStore{swap: func(s merkle.Store, ctx context.Context, head []byte, files []merkle.File) error {
			return s.Swap(context.WithoutCancel(ctx), head, files)
		}}, "done context"},
		"gives away its own bytes": {wrongStore{read: func(s merkle.Store, name string) ([]byte, error) {
			b, err := s.ReadFile(name)
			if err != nil {
				return nil, err
			}
			if mine, ok := given[name]; ok && len(mine) == len(b) {
				return mine, nil
			}
			given[name] = b
			return b, nil
		}}, "copies"},
		"loses entries": {wrongStore{swap: func(s merkle.Store, ctx context.Context, head []byte, files []merkle.File) error {
			var kept []merkle.File
			for _, f := range files {
				if !strings.HasPrefix(f.Name, "tile/entries/001") {
					kept = append(kept, f)
				}
			}
			return s.Swap(ctx, head, kept)
		}}, "log"},
	}
	for name, w := range wrong {
		t.Run(name, func(t *testing.T) {
			found := false
			for _, c := range storeCases {
				if c.name == w.fail {
					found = true
					for range 20 { // a race is not lost each time
						clear(read)
						clear(given)
						w.store.Store = merkle.NewMemoryStore()
						if c.test(t.Context(), &w.store, &w.store) != nil {
							return
						}
					}
					t.Errorf("case %q passed", c.name)
				}
			}
			if !found {
				t.Errorf("there is no case %q", w.fail)
			}
		})
	}
}

// TestEverySentenceOfAStoreIsACase compares the cases with the comments of the interface's methods.
func TestEverySentenceOfAStoreIsACase(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "../store.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var text string
	ast.Inspect(f, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name == "Store" {
			for _, m := range spec.Type.(*ast.InterfaceType).Methods.List {
				text += m.Doc.Text()
			}
		}
		return true
	})
	plain := strings.NewReplacer("[", "", "]", "", "\n", " ")
	var cases string
	for _, c := range storeCases {
		cases += plain.Replace(c.sentence) + " "
	}
	for s := range strings.SplitSeq(strings.TrimSuffix(strings.TrimSpace(plain.Replace(text)), "."), ". ") {
		for part := range strings.SplitSeq(s, "; ") {
			if !strings.Contains(cases, part) && !strings.HasPrefix(s, "Nil means") && !strings.HasPrefix(s, "Any other error") {
				t.Errorf("no case is for: %s", part)
			}
		}
	}
}
