package tessera

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

const origin = "example.org/log"

var key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))

// A bucket is what a driver for a cloud works on: it takes entries first, puts them into the tree later, and publishes that later still.
type bucket struct {
	mu         sync.Mutex
	taken      [][]byte
	integrated uint64
	tiles      merkle.Log // of what is integrated
	published  []byte
	split      bool                           // batches end in the middle, as when whoever adds to them has stopped for long
	fault      func(step string, n int) error // before a step with n entries; nil never fails
}

func newBucket(t testing.TB) *bucket {
	tiles, err := merkle.NewMemory("example.org/tiles", key)
	if err != nil {
		t.Fatal(err)
	}
	return &bucket{tiles: tiles}
}

var errFault = errors.New("the disk is full")

func (b *bucket) may(step string, n int) error {
	if b.fault == nil {
		return nil
	}
	return b.fault(step, n)
}

func (b *bucket) setFault(f func(step string, n int) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault = f
}

func (b *bucket) ReadFile(name string) ([]byte, error) {
	if name != checkpointFile {
		return b.tiles.ReadFile(name)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.published == nil {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(b.published), nil
}

func (b *bucket) ReadCheckpoint(context.Context) ([]byte, error) { return b.ReadFile(checkpointFile) }

func (b *bucket) ReadTile(context.Context, uint64, uint64, uint8) ([]byte, error) {
	return nil, errors.New("not used")
}

func (b *bucket) ReadEntryBundle(context.Context, uint64, uint8) ([]byte, error) {
	return nil, errors.New("not used")
}

func (b *bucket) NextIndex(context.Context) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return uint64(len(b.taken)), nil
}

func (b *bucket) IntegratedSize(context.Context) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.integrated, nil
}

// A driver is Tessera's driver for a bucket.
type driver struct {
	*bucket
	options *tessera.AppendOptions
	queue   []*queued
}

type queued struct {
	data   []byte
	answer chan error
	index  uint64
}

func (d *driver) Appender(ctx context.Context, o *tessera.AppendOptions) (*tessera.Appender, tessera.LogReader, error) {
	if err := d.may("appender", 0); err != nil {
		return nil, nil, err
	}
	d.options = o
	sign := o.CheckpointPublisher(d, nil)
	go d.run(ctx, sign)
	return &tessera.Appender{Add: d.take}, d, nil
}

func (d *driver) take(_ context.Context, e *tessera.Entry) tessera.IndexFuture {
	q := &queued{data: bytes.Clone(e.Data()), answer: make(chan error, 1)}
	d.mu.Lock()
	d.queue = append(d.queue, q)
	d.mu.Unlock()
	return func() (tessera.Index, error) {
		err := <-q.answer
		return tessera.Index{Index: q.index}, err
	}
}

// run does a step of each kind at a time, in the order in which they follow on each other, with pauses in which others look.
func (d *driver) run(ctx context.Context, sign func(context.Context, uint64, []byte) ([]byte, error)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(d.options.BatchMaxAge()):
		}
		d.flush()
		select {
		case <-ctx.Done():
			return
		case <-time.After(d.options.BatchMaxAge()):
		}
		d.integrate(ctx, sign)
	}
}

// flush takes the entries of the queue, in batches.
func (d *driver) flush() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.queue) > 0 {
		n := min(len(d.queue), int(d.options.BatchMaxSize()))
		if d.split {
			n = (n + 1) / 2
		}
		batch := d.queue[:n]
		d.queue = d.queue[n:]
		err := d.may("take", n)
		if errors.Is(err, errSilence) {
			continue
		}
		if err == nil {
			for _, q := range batch {
				q.index = uint64(len(d.taken))
				d.taken = append(d.taken, q.data)
			}
			err = d.may("answer", n)
		}
		for _, q := range batch {
			q.answer <- err
		}
	}
}

var errSilence = errors.New("no answer")

// integrate puts what was taken into the tree, and publishes it.
func (d *driver) integrate(ctx context.Context, sign func(context.Context, uint64, []byte) ([]byte, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if more := d.taken[d.integrated:]; d.may("integrate", len(more)) == nil {
		if _, err := d.tiles.Append(ctx, more); err != nil {
			return
		}
		d.integrated += uint64(len(more))
	}
	raw, err := d.tiles.ReadFile(checkpointFile)
	if err != nil {
		return
	}
	cp, err := merkle.ParseCheckpoint(raw, d.tiles.VerifierKey())
	if err != nil || d.may("publish", int(cp.Size)) != nil {
		return
	}
	size, root := cp.Size, cp.Root
	d.mu.Unlock() // the publisher reads the checkpoint
	signed, err := sign(ctx, size, root[:])
	d.mu.Lock()
	if err == nil {
		d.published = signed
	}
}

// memoryMark is a mark that forgets everything with the process.
type memoryMark struct {
	mu    sync.Mutex
	value []byte
	fault func(step string) error
}

func (m *memoryMark) Load(context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.value == nil {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(m.value), nil
}

func (m *memoryMark) Swap(ctx context.Context, old, new []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fault != nil {
		if err := m.fault("before"); err != nil {
			return err
		}
	}
	if (old == nil) != (m.value == nil) || !bytes.Equal(old, m.value) {
		return merkle.ErrMoved
	}
	m.value = bytes.Clone(new)
	if m.fault != nil {
		return m.fault("after")
	}
	return nil
}

func (m *memoryMark) setFault(f func(step string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = f
}

// hasty makes a log in a bucket quick, and gives it up when it waits for long.
func hasty(patience time.Duration) Option {
	return func(c *config) { c.interval, c.patience = 10*time.Millisecond, patience }
}

func openBucket(ctx context.Context, b *bucket, m Mark, options ...Option) (*Log, error) {
	return Open(ctx, Storage{"bucket of " + time.Now().String(), &driver{bucket: b}, b}, origin, key,
		append([]Option{WithMark(m), hasty(20 * time.Second)}, options...)...)
}
