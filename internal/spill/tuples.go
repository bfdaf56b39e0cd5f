package spill

import (
	"bufio"
	"bytes"
	"container/heap"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
)

// A Tuple is a key with a value. What an iterator yields is overwritten when it goes on.
type Tuple struct{ Key, Value []byte }

const (
	bufferSize = 128 << 10
	maxPart    = 1 << 24 // bytes of a key or a value
)

// A Writer writes a file of tuples, each as the lengths of its key and its value (unsigned varints) and their bytes.
type Writer struct {
	d    *Dir
	f    *os.File
	b    *bufio.Writer
	hash hash.Hash
	file File
	head []byte
}

// Create begins a file.
func (d *Dir) Create() (*Writer, error) {
	f, err := os.CreateTemp(d.path, tuplesFile)
	if err != nil {
		return nil, err
	}
	w := &Writer{d: d, f: f, hash: sha256.New(), file: File{Name: filepath.Base(f.Name())}}
	w.b = bufio.NewWriterSize(io.MultiWriter(f, w.hash), bufferSize)
	return w, nil
}

// Add adds a tuple.
func (w *Writer) Add(key, value []byte) error {
	if len(key) > maxPart || len(value) > maxPart {
		return fmt.Errorf("a tuple of over %d bytes", maxPart)
	}
	w.head = binary.AppendUvarint(binary.AppendUvarint(w.head[:0], uint64(len(key))), uint64(len(value)))
	for _, b := range [][]byte{w.head, key, value} {
		if _, err := w.b.Write(b); err != nil {
			return err
		}
		w.file.Size += int64(len(b))
	}
	w.file.Count++
	return nil
}

// Close ends the file, durably but in a temporary directory, and returns its name. It is to be called once, after an error too.
func (w *Writer) Close() (File, error) {
	err := w.b.Flush()
	if err == nil && !w.d.temporary {
		err = w.f.Sync()
	}
	if err = errors.Join(err, w.f.Close()); err != nil {
		return File{}, err
	}
	w.hash.Sum(w.file.Sum[:0])
	return w.file, nil
}

// A Reader reads the tuples of one file in their order.
type Reader struct {
	f    *os.File
	b    *bufio.Reader
	hash hash.Hash
	file File
	read uint64
	buf  []byte
	Tuple
}

// Read begins to read a file.
func (d *Dir) Read(file File) (*Reader, error) {
	r := &Reader{file: file, hash: sha256.New()}
	if file.Name == "" {
		return r, nil
	}
	f, err := os.Open(filepath.Join(d.path, filepath.Base(file.Name)))
	if err != nil {
		return nil, err
	}
	r.f, r.b = f, bufio.NewReaderSize(io.TeeReader(f, r.hash), bufferSize)
	return r, nil
}

// Next goes on to the next tuple, and reports whether there is one. The error wraps [ErrDamaged] if the file is not as it was written, which is known
// at the end at the latest.
func (r *Reader) Next() (bool, error) {
	if r.read == r.file.Count {
		return false, r.end()
	}
	var sizes [2]uint64
	for i := range sizes {
		n, err := r.size()
		if err != nil || n > maxPart {
			return false, r.damaged(err)
		}
		sizes[i] = n
	}
	r.buf = slices.Grow(r.buf[:0], int(sizes[0]+sizes[1]))[:sizes[0]+sizes[1]]
	if _, err := io.ReadFull(r.b, r.buf); err != nil {
		return false, r.damaged(err)
	}
	r.Key, r.Value = r.buf[:sizes[0]:sizes[0]], r.buf[sizes[0]:]
	r.read++
	return true, nil
}

// size reads the length of a key or a value; what is no number, which the library has no error to tell by, is as good as a file that has ended.
func (r *Reader) size() (uint64, error) {
	b, err := r.b.Peek(binary.MaxVarintLen64)
	n, read := binary.Uvarint(b)
	if read > 0 {
		_, err = r.b.Discard(read)
	} else if len(b) == binary.MaxVarintLen64 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (r *Reader) end() error {
	if r.f == nil {
		return nil
	}
	if _, err := r.b.ReadByte(); err != io.EOF || [sha256.Size]byte(r.hash.Sum(nil)) != r.file.Sum {
		return r.damaged(nil)
	}
	return nil
}

func (r *Reader) damaged(err error) error {
	if err == nil || err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%s: %w", r.file.Name, ErrDamaged)
	}
	return err
}

// Close gives the file up.
func (r *Reader) Close() {
	if r.f != nil {
		r.f.Close()
	}
}

// readers is a heap of readers by their tuples' keys, and by their places among equal ones.
type readers struct {
	of    []*Reader
	place map[*Reader]int
}

func (h *readers) Len() int      { return len(h.of) }
func (h *readers) Swap(i, j int) { h.of[i], h.of[j] = h.of[j], h.of[i] }
func (h *readers) Push(any)      { panic("spill: nothing is added") }
func (h *readers) Less(i, j int) bool {
	c := bytes.Compare(h.of[i].Key, h.of[j].Key)
	return c < 0 || c == 0 && h.place[h.of[i]] < h.place[h.of[j]]
}
func (h *readers) Pop() any {
	last := h.of[len(h.of)-1]
	h.of = h.of[:len(h.of)-1]
	return last
}

// Merge yields the tuples of sorted files in the order of their keys; those of one key come as the files do, and within a file as they stand there.
func (d *Dir) Merge(files ...File) iter.Seq2[Tuple, error] {
	return func(yield func(Tuple, error) bool) {
		h := readers{place: map[*Reader]int{}}
		defer func() {
			for r := range h.place {
				r.Close()
			}
		}()
		for i, f := range files {
			r, err := d.Read(f)
			if err != nil {
				yield(Tuple{}, err)
				return
			}
			h.place[r] = i
			more, err := r.Next()
			if err != nil {
				yield(Tuple{}, err)
				return
			}
			if more {
				h.of = append(h.of, r)
			}
		}
		heap.Init(&h)
		for len(h.of) > 0 {
			if !yield(h.of[0].Tuple, nil) {
				return
			}
			more, err := h.of[0].Next()
			switch {
			case err != nil:
				yield(Tuple{}, err)
				return
			case more:
				heap.Fix(&h, 0)
			default:
				heap.Pop(&h)
			}
		}
	}
}
