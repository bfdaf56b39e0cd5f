package spill

import (
	"bytes"
	"cmp"
	"iter"
	"slices"
)

// A Fold joins two values of one key, of which older was added before newer, and appends the result to dst.
type Fold func(dst, older, newer []byte) ([]byte, error)

// A Sorter sorts tuples by their keys, in memory as long as they fit and then in files. Those of one key stay in the order in which they were
// added; with a Fold they become one.
type Sorter struct {
	Dir   *Dir
	Limit int    // bytes in memory
	Fold  Fold   // nil keeps every tuple
	Files []File // what was flushed, in its order

	bytes  []byte
	tuples []spot
}

// A spot is where a tuple lies in memory.
type spot struct{ at, key, value int }

func (s *Sorter) key(x spot) []byte   { return s.bytes[x.at : x.at+x.key] }
func (s *Sorter) value(x spot) []byte { return s.bytes[x.at+x.key : x.at+x.key+x.value] }

// Add adds a tuple, of which it keeps a copy.
func (s *Sorter) Add(key, value []byte) error {
	s.tuples = append(s.tuples, spot{len(s.bytes), len(key), len(value)})
	s.bytes = append(append(s.bytes, key...), value...)
	if len(s.bytes)+24*len(s.tuples) < s.Limit {
		return nil
	}
	return s.Flush()
}

// Flush writes what is in memory to a file.
func (s *Sorter) Flush() error {
	if len(s.tuples) == 0 {
		return nil
	}
	slices.SortFunc(s.tuples, func(a, b spot) int { return cmp.Or(bytes.Compare(s.key(a), s.key(b)), cmp.Compare(a.at, b.at)) })
	f, err := s.Dir.write(s.Fold, func(yield func(Tuple, error) bool) {
		for _, x := range s.tuples {
			if !yield(Tuple{s.key(x), s.value(x)}, nil) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	s.Files, s.bytes, s.tuples = append(s.Files, f), s.bytes[:0], s.tuples[:0]
	return nil
}

// Join merges sorted files, the older ones first, into one.
func (d *Dir) Join(fold Fold, files ...File) (File, error) { return d.write(fold, d.Merge(files...)) }

func (d *Dir) write(fold Fold, tuples iter.Seq2[Tuple, error]) (File, error) {
	w, err := d.Create()
	if err != nil {
		return File{}, err
	}
	if err := w.all(fold, tuples); err != nil {
		w.Close()
		return File{}, err
	}
	return w.Close()
}

func (w *Writer) all(fold Fold, tuples iter.Seq2[Tuple, error]) error {
	var key, value, spare []byte
	some := false
	for t, err := range tuples {
		if err != nil {
			return err
		}
		if some && fold != nil && bytes.Equal(t.Key, key) {
			if spare, err = fold(spare[:0], value, t.Value); err != nil {
				return err
			}
			value, spare = spare, value
			continue
		}
		if some {
			if err := w.Add(key, value); err != nil {
				return err
			}
		}
		key, value, some = append(key[:0], t.Key...), append(value[:0], t.Value...), true
	}
	if some {
		return w.Add(key, value)
	}
	return nil
}
