package policy

import (
	"runtime"
	"testing"
)

// BenchmarkHeap is how much memory a system keeps for each user, with everything that it decides by, and without what it was made from.
func BenchmarkHeap(b *testing.B) {
	for _, s := range sizes {
		if s.name != "L" && !s.huge {
			continue
		}
		for n, system := range systems {
			if s.huge && n >= own {
				break
			}
			b.Run(s.name+"/"+system.name, func(b *testing.B) {
				var kept uint64
				for b.Loop() {
					before := heap()
					d, err := system.build(newWorld(s))
					if err != nil {
						b.Fatal(err)
					}
					kept = heap() - before
					runtime.KeepAlive(d)
				}
				b.ReportMetric(float64(kept)/float64(s.users), "B/user")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// heap returns how much of the heap is in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
