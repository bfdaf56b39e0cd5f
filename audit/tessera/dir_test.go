//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package tessera

import (
	"testing"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/merkle/merkletest"
)

func openDir(t *testing.T, dir string, options ...Option) *Log {
	t.Helper()
	l, err := OpenDir(t.Context(), dir, origin, key, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestDirIsALog(t *testing.T) {
	merkletest.TestLog(t, func(t *testing.T) merkle.Log { return openDir(t, t.TempDir()) })
}
