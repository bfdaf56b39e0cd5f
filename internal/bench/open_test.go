package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

var lengths = []int{10_000, 1_000_000, 10_000_000}

// BenchmarkOpen measures opening a log whose process ended without closing it, with as many entries as the size says, and reading one; and how much
// memory the log took, at the most, while it became so long.
func BenchmarkOpen(b *testing.B) {
	for _, n := range lengths {
		b.Run(fmt.Sprint(n)+"/bailiwick", func(b *testing.B) { openLog(b, n) })
	}
}

func openLog(b *testing.B, n int) {
	dir := filepath.Join(b.TempDir(), "log")
	l, err := merkle.OpenDir(dir, origin, key(1))
	if err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	var most uint64
	const step = 4096
	begun := time.Now()
	for i := 0; i < n; i += step {
		leaves := make([][]byte, min(step, n-i))
		for k := range leaves {
			leaves[k] = entry(uint64(i + k))[:100]
		}
		if _, err := l.Append(b.Context(), leaves); err != nil {
			b.Fatal(err)
		}
		if i/step%16 == 0 {
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapInuse)
		}
	}
	grown := time.Since(begun)
	left := filepath.Join(b.TempDir(), "left") // what a process that ends now leaves
	if err := os.Mkdir(left, 0o700); err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{".journal", "checkpoint"} { // in this order, for what is in tiles leaves the journal
		for try := 0; ; try++ {
			to := filepath.Join(left, name)
			err := errors.Join(os.RemoveAll(to), copyAll(to, filepath.Join(dir, name)))
			if err == nil {
				break
			}
			if try == 10 {
				b.Fatal(err)
			}
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "tile"), filepath.Join(left, "tile")); err != nil {
		b.Fatal(err)
	}
	first := true
	var slowest time.Duration
	for b.Loop() {
		begun := time.Now()
		l, err := merkle.OpenDir(left, origin, key(1))
		if err != nil {
			b.Fatal(err)
		}
		size, err := l.Append(b.Context(), nil)
		if err == nil {
			_, err = l.ReadFile("checkpoint")
		}
		if err != nil || size != uint64(n) {
			b.Fatal(size, err)
		}
		if took := time.Since(begun); first {
			slowest, first = took, false
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(slowest.Seconds()*1000, "recovery-ms")
	b.ReportMetric(float64(most-min(most, before.HeapInuse))/1e6, "most-MB")
	b.ReportMetric(float64(n)/grown.Seconds(), "entries/s")
}

// copyAll copies a file, or a directory with the files in it.
func copyAll(to, from string) error {
	if info, err := os.Stat(from); err == nil && info.IsDir() {
		return os.CopyFS(to, os.DirFS(from))
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}
