package bench

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// entry returns an entry of the size that an event has.
func entry(n uint64) []byte {
	return append(binary.BigEndian.AppendUint64(nil, n), make([]byte, 392)...)
}

// appenders are how many callers there are at the same time.
var appenders = []int{1, 256}

// BenchmarkAppend measures one entry, durable and in the tree when the call returns.
func BenchmarkAppend(b *testing.B) {
	for _, n := range appenders {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.Run("bailiwick", func(b *testing.B) { appendDir(b, n) })
			b.Run("tessera", func(b *testing.B) { appendTessera(b, n) })
			b.Run("bbolt", func(b *testing.B) { appendBolt(b, n) })
			b.Run("sqlite", func(b *testing.B) { appendSQLite(b, n) })
			if n == 1 {
				b.Run("floor", appendFloor)
			} else {
				b.Run("floor", func(b *testing.B) { appendGrouped(b, n) })
			}
		})
	}
}

func appendDir(b *testing.B, callers int) {
	l, err := merkle.OpenDir(filepath.Join(b.TempDir(), "log"), origin, key(1))
	if err != nil {
		b.Fatal(err)
	}
	var n atomic.Uint64
	measure(b, callers, "entries/s", func(int) error {
		_, err := l.Append(b.Context(), [][]byte{entry(n.Add(1))})
		return err
	})
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}

// appendFloor is what the disk does: one write and one fsync for each entry.
func appendFloor(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	var n uint64
	measure(b, 1, "entries/s", func(int) error {
		n++
		if _, err := f.Write(entry(n)); err != nil {
			return err
		}
		return f.Sync()
	})
}

// appendGrouped is what the disk does for many callers: one of them writes and syncs for all that wait.
func appendGrouped(b *testing.B, callers int) {
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	var mu sync.Mutex
	var n, done uint64
	var waiting []byte
	synced := sync.NewCond(&mu)
	busy := false
	measure(b, callers, "entries/s", func(int) error {
		mu.Lock()
		defer mu.Unlock()
		n++
		mine := n
		waiting = append(waiting, entry(n)...)
		for done < mine {
			if busy {
				synced.Wait()
				continue
			}
			busy = true
			group, last := waiting, n
			waiting = nil
			mu.Unlock()
			_, err := f.Write(group)
			if err == nil {
				err = f.Sync()
			}
			mu.Lock()
			busy, done = false, last
			synced.Broadcast()
			if err != nil {
				return err
			}
		}
		return nil
	})
}
