package merkletest

import (
	"context"
	"crypto/ed25519"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

func memoryLog(t testing.TB) merkle.Log {
	l, err := merkle.NewMemory("example.com/log", ed25519.NewKeyFromSeed(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestMemoryLog(t *testing.T) {
	TestLog(t, func(t *testing.T) merkle.Log { return memoryLog(t) })
}

func TestLogDir(t *testing.T) {
	TestLog(t, func(t *testing.T) merkle.Log {
		l, err := merkle.OpenDir(t.TempDir(), "example.com/log", ed25519.NewKeyFromSeed(make([]byte, 32)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	})
}

// A wrongLog is a log of which one method does something else.
type wrongLog struct {
	merkle.Log
	append func(l merkle.Log, ctx context.Context, leaves [][]byte) (uint64, error)
	read   func(l merkle.Log, name string) ([]byte, error)
}

func (w *wrongLog) Append(ctx context.Context, leaves [][]byte) (uint64, error) {
	if w.append == nil {
		return w.Log.Append(ctx, leaves)
	}
	return w.append(w.Log, ctx, leaves)
}

func (w *wrongLog) ReadFile(name string) ([]byte, error) {
	if w.read == nil {
		return w.Log.ReadFile(name)
	}
	return w.read(w.Log, name)
}

func TestWrongLogsFail(t *testing.T) {
	var mu sync.Mutex
	files := map[string][]byte{}
	wrong := map[string]struct {
		log  wrongLog
		fail string // the case that must find it
	}{
		"returns the index of the last": {wrongLog{append: func(l merkle.Log, ctx context.Context, leaves [][]byte) (uint64, error) {
			first, err := l.Append(ctx, leaves)
			return first + uint64(max(len(leaves), 1)) - 1, err
		}}, "order"},
		"loses the last of many": {wrongLog{append: func(l merkle.Log, ctx context.Context, leaves [][]byte) (uint64, error) {
			return l.Append(ctx, leaves[:min(len(leaves), 299)])
		}}, "order"},
		"reverses": {wrongLog{append: func(l merkle.Log, ctx context.Context, leaves [][]byte) (uint64, error) {
			leaves = slices.Clone(leaves)
			slices.Reverse(leaves)
			return l.Append(ctx, leaves)
		}}, "order"},
		"appends one by one": {wrongLog{append: func(l merkle.Log, ctx context.Context, leaves [][]byte) (first uint64, err error) {
			for i, leaf := range leaves {
				at, err := l.Append(ctx, [][]byte{leaf})
				if err != nil {
					return 0, err
				}
				if i == 0 {
					first = at
				}
			}
			return first, nil
		}}, "leaf size"},
		"ignores the context": {wrongLog{append: func(l merkle.Log, ctx context.Context, leaves [][]byte) (uint64, error) {
			return l.Append(context.WithoutCancel(ctx), leaves)
		}}, "done context"},
		"returns 0 for no leaves": {wrongLog{append: func(l merkle.Log, ctx context.Context, leaves [][]byte) (uint64, error) {
			if len(leaves) == 0 {
				return 0, nil
			}
			return l.Append(ctx, leaves)
		}}, "no leaves"},
		"serves an old checkpoint": {wrongLog{read: func(l merkle.Log, name string) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			if b, ok := files[name]; ok {
				return b, nil
			}
			b, err := l.ReadFile(name)
			if name == "checkpoint" {
				files[name] = b
			}
			return b, err
		}}, "order"},
		"gives away its own bytes": {wrongLog{read: func(l merkle.Log, name string) ([]byte, error) {
			if files[name] == nil || name == "checkpoint" {
				b, err := l.ReadFile(name)
				if err != nil {
					return nil, err
				}
				files[name] = b
			}
			return files[name], nil
		}}, "copies"},
		"has an empty file for a missing one": {wrongLog{read: func(l merkle.Log, name string) ([]byte, error) {
			b, err := l.ReadFile(name)
			if err != nil && strings.HasPrefix(name, "tile/") {
				return nil, nil
			}
			return b, err
		}}, "missing"},
	}
	for name, w := range wrong {
		t.Run(name, func(t *testing.T) {
			clear(files)
			for _, c := range logCases {
				w.log.Log = memoryLog(t)
				if c.name == w.fail && c.test(t.Context(), &w.log) == nil {
					t.Errorf("case %q passed", c.name)
				}
			}
		})
	}
}
