//go:build !linux

package enginetest

import "time"

// monotonic returns nanoseconds on a clock that every process of this machine shares. Here it is one that can be set.
func monotonic() int64 { return time.Now().UnixNano() }
