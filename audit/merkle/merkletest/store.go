package merkletest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// TestStore tests that a store is as [merkle.Store] says, and that a log on it is as [merkle.Log] says. The function open returns a new store at each
// call, and what returns the same one as another node has it.
func TestStore(t *testing.T, open func(t *testing.T) (s merkle.Store, node func() merkle.Store)) {
	for _, c := range storeCases {
		t.Run(c.name, func(t *testing.T) {
			s, node := open(t)
			if err := c.test(t.Context(), s, node()); err != nil {
				t.Errorf("%v\nThe contract: %s", err, c.sentence)
			}
		})
	}
}

type storeCase struct {
	name, sentence string
	test           func(ctx context.Context, s, other merkle.Store) error
}

var storeCases = []storeCase{
	{"missing", "ReadFile returns what was last stored under the name, by whichever writer; if nothing was, the error wraps fs.ErrNotExist.", testNothing},
	{"last", "ReadFile returns what was last stored under the name, by whichever writer; each file is stored in the place of what had its name.", testLast},
	{"compare", "Swap stores the files, each in the place of what had its name, if what is stored under HeadFile is head, byte by byte, or if nothing " +
		"is and head is nil.", testCompare},
	{"race", "Otherwise nothing is stored, and the error wraps ErrMoved: of several swaps from one head only one can pass.", testRace},
	{"whole", "The files appear all at the same time, or none does; whoever has read one of them reads the others, or later ones.", testWhole},
	{"takes away", "A file without data takes away what has its name, if anything does, and is not stored.", testTakesAway},
	{"sizes", "A name has up to 64 bytes of ASCII, and a file up to 16,777,472 bytes.", testSizes},
	{"done context", "A context that is done is an error, and nothing is stored.", testDoneSwap},
	{"copies", "It keeps copies of what it is given and returns copies.", testStoreCopies},
	{"log", "OpenStore makes a Log of it.", testStoreLog},
}

func at(n int) []byte { return fmt.Appendf(nil, "%d\x00\xff\n", n) }

// swapTo stores the head n and other files that say n.
func swapTo(ctx context.Context, s merkle.Store, head []byte, n int) error {
	return s.Swap(ctx, head, []merkle.File{{Name: "tile/0/000", Data: at(n)}, {Name: "tile/entries/x001/000", Data: at(n)},
		{Name: merkle.HeadFile, Data: at(n)}, {Name: "z", Data: at(n)}})
}

var swapped = []string{"tile/0/000", "tile/entries/x001/000", merkle.HeadFile, "z"}

// says checks that all of the files say n.
func says(s merkle.Store, n int) error {
	for _, name := range swapped {
		if b, err := s.ReadFile(name); err != nil || !bytes.Equal(b, at(n)) {
			return fmt.Errorf("%s is %q, not %q: %v", name, b, at(n), err)
		}
	}
	return nil
}

func testNothing(ctx context.Context, s, other merkle.Store) error {
	for _, s := range []merkle.Store{s, other, s} {
		for _, name := range []string{merkle.HeadFile, "tile/0/001", "tile/0/0001", "tile", "", "heads"} {
			if b, err := s.ReadFile(name); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%q is %.20q with error %v", name, b, err)
			}
		}
		if err := s.Swap(ctx, nil, []merkle.File{{Name: "tile/0/000", Data: at(0)}}); err != nil { // there is still no head
			return err
		}
	}
	return nil
}

func testLast(ctx context.Context, s, other merkle.Store) error {
	if err := swapTo(ctx, s, nil, 1); err != nil {
		return err
	}
	for n := 1; n < 8; n++ {
		if err := errors.Join(says(s, n), says(other, n)); err != nil {
			return err
		}
		if err := swapTo(ctx, other, at(n), n+1); err != nil {
			return err
		}
		s, other = other, s
	}
	if err := s.Swap(ctx, at(8), []merkle.File{{Name: merkle.HeadFile, Data: at(9)}}); err != nil {
		return err
	}
	if b, err := other.ReadFile("z"); err != nil || !bytes.Equal(b, at(8)) {
		return fmt.Errorf("a file that was not swapped is %q: %v", b, err)
	}
	return nil
}

func testCompare(ctx context.Context, s, other merkle.Store) error {
	refused := func(s merkle.Store, head []byte) error {
		if err := swapTo(ctx, s, head, 99); !errors.Is(err, merkle.ErrMoved) {
			return fmt.Errorf("a swap from %q returned %v", head, err)
		}
		return nil
	}
	if err := errors.Join(refused(s, []byte{}), refused(s, at(0))); err != nil {
		return err
	}
	if b, err := s.ReadFile("z"); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("a swap that was refused stored %q: %v", b, err)
	}
	if err := swapTo(ctx, s, nil, 1); err != nil {
		return err
	}
	if err := swapTo(ctx, other, at(1), 2); err != nil {
		return err
	}
	now := at(2)
	for _, head := range [][]byte{nil, {}, at(1), at(99), now[:len(now)-1], append(bytes.Clone(now), 0), []byte("2\x00\xfe\n"), bytes.ToUpper(at(3))} {
		for _, s := range []merkle.Store{s, other} {
			if err := errors.Join(refused(s, head), says(s, 2)); err != nil {
				return err
			}
		}
	}
	return swapTo(ctx, s, now, 3)
}

func testRace(ctx context.Context, s, other merkle.Store) error {
	const writers, rounds = 6, 12
	if err := swapTo(ctx, s, nil, 0); err != nil {
		return err
	}
	last := 0
	for round := range rounds {
		var wg sync.WaitGroup
		errs := make([]error, writers)
		for w := range writers {
			wg.Go(func() { errs[w] = swapTo(ctx, []merkle.Store{s, other}[w%2], at(last), 1+round*writers+w) })
		}
		wg.Wait()
		won := -1
		for w, err := range errs {
			switch {
			case err == nil && won >= 0:
				return fmt.Errorf("writers %d and %d both swapped from %q", won, w, at(last))
			case err == nil:
				won = w
			case !errors.Is(err, merkle.ErrMoved):
				return err
			}
		}
		if won < 0 {
			return fmt.Errorf("nobody swapped from %q", at(last))
		}
		last = 1 + round*writers + won
		if err := errors.Join(says(s, last), says(other, last)); err != nil {
			return err
		}
	}
	return nil
}

func testWhole(ctx context.Context, s, other merkle.Store) error {
	const rounds = 60
	if err := swapTo(ctx, s, nil, 0); err != nil {
		return err
	}
	done, failed := make(chan struct{}), make(chan error, 2)
	for _, order := range [][]string{{"tile/0/000", merkle.HeadFile, "z"}, {"z", merkle.HeadFile, "tile/0/000"}} {
		go func() {
			for {
				least := 0
				for _, name := range order {
					b, err := other.ReadFile(name)
					n := 0
					if err == nil {
						_, err = fmt.Sscan(string(b[:bytes.IndexByte(b, 0)]), &n)
					}
					if err == nil && n < least {
						err = fmt.Errorf("%s says %d after another file said %d", name, n, least)
					}
					if err != nil {
						failed <- err
						return
					}
					least = n
				}
				select {
				case <-done:
					failed <- nil
					return
				default:
				}
			}
		}()
	}
	var err error
	for n := 0; n < rounds && err == nil; n++ {
		err = swapTo(ctx, s, at(n), n+1)
	}
	close(done)
	return errors.Join(err, <-failed, <-failed)
}

func testTakesAway(ctx context.Context, s, other merkle.Store) error {
	if err := swapTo(ctx, s, nil, 1); err != nil {
		return err
	}
	away := []merkle.File{{Name: "z"}, {Name: "tile/0/001"}, {Name: "tile/0/000", Data: []byte{}}}
	if err := s.Swap(ctx, at(0), away); !errors.Is(err, merkle.ErrMoved) {
		return fmt.Errorf("from another head the error is %v", err)
	}
	if err := says(other, 1); err != nil {
		return err
	}
	for range 2 { // once more changes nothing
		if err := s.Swap(ctx, at(1), away); err != nil {
			return err
		}
		for _, f := range away {
			if b, err := other.ReadFile(f.Name); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s is %q with error %v", f.Name, b, err)
			}
		}
		for _, name := range []string{merkle.HeadFile, "tile/entries/x001/000"} {
			if b, err := other.ReadFile(name); err != nil || !bytes.Equal(b, at(1)) {
				return fmt.Errorf("%s is %q with error %v", name, b, err)
			}
		}
	}
	var many []merkle.File
	for i := range 100 {
		many = append(many, merkle.File{Name: fmt.Sprintf("tile/0/%03d", i)})
	}
	if err := errors.Join(s.Swap(ctx, at(1), many), swapTo(ctx, other, at(1), 2)); err != nil {
		return err
	}
	return errors.Join(says(s, 2), s.Swap(ctx, at(2), append(many, merkle.File{Name: merkle.HeadFile, Data: at(3)}, merkle.File{Name: "y", Data: at(3)})))
}

func testSizes(ctx context.Context, s, other merkle.Store) error {
	name := strings.Repeat("x", 64)
	large := bytes.Repeat([]byte("large\x00\xff\x80"), 16_777_472/8)
	if err := s.Swap(ctx, nil, []merkle.File{{Name: "tile/entries/000", Data: large}, {Name: name, Data: at(0)}, {Name: merkle.HeadFile, Data: at(1)}}); err != nil {
		return err
	}
	for want, name := range map[string]string{string(large): "tile/entries/000", string(at(0)): name, string(at(1)): merkle.HeadFile} {
		if b, err := other.ReadFile(name); err != nil || string(b) != want {
			return fmt.Errorf("%s has %d bytes, not %d, or others: %v", name, len(b), len(want), err)
		}
	}
	return nil
}

func testDoneSwap(ctx context.Context, s, other merkle.Store) error {
	if err := swapTo(ctx, s, nil, 1); err != nil {
		return err
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if err := swapTo(done, s, at(1), 2); err == nil {
		return errors.New("a swap whose context was done passed")
	}
	return errors.Join(says(other, 1), swapTo(ctx, other, at(1), 3), says(s, 3))
}

func testStoreCopies(ctx context.Context, s, other merkle.Store) error {
	files := []merkle.File{{Name: merkle.HeadFile, Data: at(1)}, {Name: "z", Data: at(1)}}
	if err := s.Swap(ctx, nil, files); err != nil {
		return err
	}
	for i := range files {
		clear(files[i].Data)
		files[i] = merkle.File{}
	}
	for _, s := range []merkle.Store{s, other, s, other} {
		b, err := s.ReadFile("z")
		if err != nil || !bytes.Equal(b, at(1)) {
			return fmt.Errorf("the file is %q: %v", b, err)
		}
		clear(b)
	}
	return swapTo(ctx, s, at(1), 2)
}

func testStoreLog(ctx context.Context, s, other merkle.Store) error {
	var logs []merkle.Log
	for _, s := range []merkle.Store{s, other} {
		l, err := merkle.OpenStore(ctx, s, "example.com/log", storeKey)
		if err != nil {
			return err
		}
		logs = append(logs, l)
	}
	var all [][]byte
	for i, n := range []int{1, 2, 252, 1, 1, 300} {
		leaves := batch(fmt.Sprint(i), n)
		first, err := logs[i%2].Append(ctx, leaves)
		if err != nil || first != uint64(len(all)) {
			return fmt.Errorf("an Append to a log of %d returned %d: %v", len(all), first, err)
		}
		all = append(all, leaves...)
		if err := errors.Join(holds(logs[0], all), holds(logs[1], all)); err != nil {
			return err
		}
	}
	return nil
}

var storeKey = ed25519.NewKeyFromSeed(make([]byte, 32))
