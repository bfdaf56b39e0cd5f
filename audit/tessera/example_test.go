//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package tessera_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/tessera"
)

// A log in a directory, with its mark elsewhere. What is acknowledged is published: anybody who reads the directory verifies it. A log whose directory
// is set back does not open.
func Example() {
	ctx := context.Background()
	base, _ := os.MkdirTemp("", "log")
	defer os.RemoveAll(base)
	dir, backup := filepath.Join(base, "log"), filepath.Join(base, "backup")
	mark := tessera.WithMark(tessera.MarkFile(filepath.Join(base, "mark")))

	log, err := tessera.OpenDir(ctx, dir, "example.org/log", key(1), mark)
	fmt.Println("opened:", err)
	first, err := log.Append(ctx, [][]byte{[]byte("maya asked"), []byte("ravi agreed")})
	fmt.Println("appended at", first, err)
	os.CopyFS(backup, os.DirFS(dir))
	for _, leaf := range []string{"maya acted", "maya is done"} {
		first, err = log.Append(ctx, [][]byte{[]byte(leaf)})
		fmt.Println("appended at", first, err)
	}
	fmt.Println("closed:", log.Close())

	files, _ := os.OpenRoot(dir)
	defer files.Close()
	cp, _, err := merkle.Verify(ctx, files, log.VerifierKey(), func(index uint64, leaf []byte) error {
		fmt.Printf("%d %s\n", index, leaf)
		return nil
	})
	fmt.Println("verified", cp.Size, err)

	os.RemoveAll(dir)
	os.Rename(backup, dir)
	_, err = tessera.OpenDir(ctx, dir, "example.org/log", key(1), mark)
	fmt.Println("set back:", errors.Is(err, merkle.ErrRewound))
	fmt.Println(err)
	// Output:
	// opened: <nil>
	// appended at 0 <nil>
	// appended at 2 <nil>
	// appended at 3 <nil>
	// closed: <nil>
	// 0 maya asked
	// 1 ravi agreed
	// 2 maya acted
	// 3 maya is done
	// verified 4 <nil>
	// set back: true
	// tessera: log example.org/log: open: merkle: the log was set back: its checkpoint has 2 entries, and its mark begins after 3
}
