package audit

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/bailiwick-go/bailiwick/internal/canon"
	"github.com/bailiwick-go/bailiwick/internal/durable"
)

// MinSealKey is the least number of bytes of a seal key.
const MinSealKey = 32

// A Keeper keeps the seal keys of a store, outside of the ledger's database. A nil Keeper is an error to whoever needs one.
type Keeper interface {
	// SealKeys returns the keys, each of at least [MinSealKey] random bytes. The first seals; all of them open what they have sealed. To roll
	// over, put a new one first, and take the old one away once [Store.Reseal] has left nothing that it sealed.
	SealKeys(ctx context.Context) ([][]byte, error)
}

// SealKeys is a [Keeper] of keys that the host has at hand.
type SealKeys [][]byte

// SealKeys implements [Keeper].
func (k SealKeys) SealKeys(context.Context) ([][]byte, error) { return k, nil }

// A KeyFile is a [Keeper] in the file with that name: one key a line, in hexadecimal, the one that seals first. Lines that are empty or start with #
// are passed over. A file that others than its owner may read or write is an error.
type KeyFile string

// maxKeyFile is how large a key file may be.
const maxKeyFile = 1 << 16

// SealKeys implements [Keeper]. Its errors never hold what is in the file.
func (k KeyFile) SealKeys(context.Context) ([][]byte, error) {
	f, err := os.OpenFile(string(k), os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe that nobody writes to is not waited for
	if err != nil {
		return nil, fmt.Errorf("audit: seal keys: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("audit: seal keys: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("audit: seal keys: %s is not a file", string(k))
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("audit: seal keys: others may read or write %s; its mode has to be 0600", string(k))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("audit: seal keys: %w", err)
	}
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("audit: seal keys: %s has over %d bytes", string(k), maxKeyFile)
	}
	var keys [][]byte
	for n, line := range strings.Split(string(text), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		key, err := hex.DecodeString(line)
		if err != nil || len(key) < MinSealKey { // the error would show a part of the line
			return nil, fmt.Errorf("audit: seal keys: line %d of %s is not a key of %d bytes or more in hexadecimal", n+1, string(k), MinSealKey)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("audit: seal keys: there is none in %s", string(k))
	}
	return keys, nil
}

// Roll puts a new key first, before those that are there, and makes the file if there is none. It is an error while somebody else does so.
func (k KeyFile) Roll(ctx context.Context) error {
	dir, err := os.Open(filepath.Dir(string(k)))
	if err != nil {
		return fmt.Errorf("audit: seal keys: %w", err)
	}
	defer durable.Unlock(dir)
	if errors.Is(durable.Lock(dir), durable.ErrLocked) { // where there are locks
		return fmt.Errorf("audit: seal keys: somebody else is writing %s", string(k))
	}
	old, err := k.SealKeys(ctx)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	key := make([]byte, MinSealKey)
	rand.Read(key)
	var text bytes.Buffer
	for _, key := range slices.Concat([][]byte{key}, old) {
		fmt.Fprintln(&text, hex.EncodeToString(key))
	}
	if text.Len() > maxKeyFile {
		return fmt.Errorf("audit: seal keys: there is no room for one more in %s", string(k))
	}
	t, err := os.CreateTemp(filepath.Dir(string(k)), ".seal-*") // its mode is 0600
	if err != nil {
		return fmt.Errorf("audit: seal keys: %w", err)
	}
	defer os.Remove(t.Name())
	_, err = t.Write(text.Bytes())
	if err == nil {
		err = t.Sync()
	}
	if err = errors.Join(err, t.Close()); err == nil {
		err = os.Rename(t.Name(), string(k))
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(string(k)))
	}
	if err != nil {
		return fmt.Errorf("audit: seal keys: %w", err)
	}
	return nil
}

// A sealer seals under one key and names it.
type sealer struct {
	id  [8]byte // of the key, and nobody who knows it knows the key
	key []byte
}

// sealers are those of a keeper, the first of which seals.
func sealers(ctx context.Context, k Keeper) ([]sealer, error) {
	if k == nil {
		return nil, errors.New("audit: no seal keys")
	}
	keys, err := k.SealKeys(ctx)
	if err != nil {
		return nil, err
	}
	var out []sealer
	for _, key := range keys {
		if len(key) < MinSealKey {
			return nil, fmt.Errorf("audit: a seal key has at least %d bytes", MinSealKey)
		}
		id := canon.Hash("bailiwick/seal-key/v1", key)
		out = append(out, sealer{[8]byte(id[:8]), bytes.Clone(key)})
	}
	if len(out) == 0 {
		return nil, errors.New("audit: no seal keys")
	}
	return out, nil
}

func (k *sealer) mac(what string, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, k.key)
	h.Write(canon.Frame("bailiwick/seal/"+what+"/v1", parts...))
	return h.Sum(nil)
}

// A sealed record or event is sealVersion, the key's ID, the MAC, for a record the digest of its last version and a salt, and the content.
const (
	sealVersion = 1
	sealHead    = 1 + 8 + sha256.Size
	recordHead  = sealHead + sha256.Size + saltSize
)

func (k *sealer) seal(mac []byte, content ...[]byte) []byte {
	return slices.Concat([]byte{sealVersion}, k.id[:], mac, slices.Concat(content...))
}

// A ring has the sealers of a store, and its keeper.
type ring struct {
	keeper  Keeper
	sealers atomic.Pointer[[]sealer]
	mu      sync.Mutex
	missed  map[[8]byte]bool // keys that the keeper was asked for and does not have
	since   time.Time        // when the first of them was
}

// A keeper is asked for so many keys in a second that it may not have.
const ringMisses = 8

// refresh asks the keeper anew.
func (r *ring) refresh(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ask(ctx)
}

func (r *ring) ask(ctx context.Context) error {
	keys, err := sealers(ctx, r.keeper)
	if err == nil {
		r.sealers.Store(&keys)
	}
	return err
}

// current returns the sealer that seals.
func (r *ring) current() *sealer { return &(*r.sealers.Load())[0] }

func (r *ring) named(id [8]byte) *sealer {
	keys := *r.sealers.Load()
	for i := range keys {
		if keys[i].id == id {
			return &keys[i]
		}
	}
	return nil
}

// of returns the sealer of what is sealed, at least head bytes of it. If it is none of those that are known, another node may have rolled over:
// the keeper is asked, but not all the time.
func (r *ring) of(sealed []byte, head int) (*sealer, error) {
	if len(sealed) < head || sealed[0] != sealVersion {
		return nil, ErrSeal
	}
	id := [8]byte(sealed[1:9])
	if k := r.named(id); k != nil {
		return k, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.named(id); k != nil { // somebody else has just asked
		return k, nil
	}
	if time.Since(r.since) >= time.Second {
		r.missed, r.since = map[[8]byte]bool{}, time.Now()
	}
	if !r.missed[id] && len(r.missed) < ringMisses {
		ctx, cancel := context.WithTimeout(context.Background(), syncTimeout)
		defer cancel()
		if r.ask(ctx) == nil {
			if k := r.named(id); k != nil {
				return k, nil
			}
		}
		r.missed[id] = true
	}
	return nil, fmt.Errorf("%w: none of the seal keys fits", ErrSeal)
}

// digest is the state digest of r, whose Bytes are the value, after the version with the digest prev. It is over a commitment to keys and value: once
// the salt is gone, nobody can find out what they were by trying.
func (s *Store) digest(r Record, prev Digest, salt []byte) Digest {
	keys := func(ks []Key) []byte {
		var parts [][]byte
		for _, k := range slices.Sorted(slices.Values(ks)) {
			parts = append(parts, []byte(k))
		}
		return canon.Frame("", parts...)
	}
	commitment := canon.Hash("bailiwick/value/v1", salt, keys(r.Keys), keys(r.UniqueKeys), r.Bytes)
	return canon.Hash("bailiwick/state/v1", []byte(s.origin), []byte(r.Kind), []byte(r.ID),
		binary.BigEndian.AppendUint64(nil, r.Version), prev[:], commitment[:])
}

// sealRecord returns r, whose Bytes are the value, as the ledger keeps it, and its digest. That of a tombstone is zero.
func (s *Store) sealRecord(r Record, prev Digest) (Record, Digest) {
	if r = r.clone(); len(r.Bytes) == 0 {
		return r, Digest{}
	}
	salt := newSalt()
	d := s.digest(r, prev, salt[:])
	k := s.ring.current()
	r.Bytes = k.seal(k.mac("record", d[:]), prev[:], salt[:], r.Bytes)
	return r, d
}

// open checks the seal of r, replaces its Bytes by the value and returns its digest.
func (s *Store) open(r *Record) (Digest, error) {
	if r.Kind == ValueKind {
		d, _, err := s.openValue(r)
		return d, err
	}
	k, err := s.ring.of(r.Bytes, recordHead)
	if err != nil {
		return Digest{}, fmt.Errorf("%w: %s %q", err, r.Kind, r.ID)
	}
	v := *r
	v.Bytes = r.Bytes[recordHead:]
	const salt = sealHead + sha256.Size
	d := s.digest(v, Digest(r.Bytes[sealHead:salt]), r.Bytes[salt:recordHead])
	if !hmac.Equal(r.Bytes[9:sealHead], k.mac("record", d[:])) {
		return Digest{}, fmt.Errorf("%w: %s %q", ErrSeal, r.Kind, r.ID)
	}
	*r = v
	return d, nil
}

func (s *Store) sealEvent(id EventID, leaf []byte) SealedEvent {
	k := s.ring.current()
	return SealedEvent{id, k.seal(k.mac("event", []byte(s.origin), []byte(id.String()), leaf), leaf)}
}

// openEvent checks the seal of e and returns the event and its leaf.
func (s *Store) openEvent(e SealedEvent) (Event, []byte, error) {
	k, err := s.ring.of(e.Bytes, sealHead)
	if err != nil {
		return Event{}, nil, fmt.Errorf("%w: event %s", err, e.ID)
	}
	leaf := e.Bytes[sealHead:]
	if !hmac.Equal(e.Bytes[9:sealHead], k.mac("event", []byte(s.origin), []byte(e.ID.String()), leaf)) {
		return Event{}, nil, fmt.Errorf("%w: event %s", ErrSeal, e.ID)
	}
	ev, err := ParseEvent(leaf)
	return ev, leaf, err
}

// Reseal asks the keeper for its keys anew and seals every record that was sealed with another than the first of them again, as a new version of
// the same value with an event "record.resealed". It returns how many there were. It may be called again after an interruption, and while everything
// else goes on. Another node seals with the key that it knows until it meets a new one or is called too, and what is being committed is sealed
// already: once every node has been called, and two minutes later it has returned 0 and no error, and what was pending then is in the log, the other
// keys are not needed any more.
func (s *Store) Reseal(ctx context.Context) (n int, _ error) {
	if err := s.ring.refresh(ctx); err != nil {
		return 0, err
	}
	var errs []error
	for _, kind := range s.tables() {
		for r, err := range s.ledger.Scan(ctx, kind, "id/", PrefixEnd("id/")) {
			if errors.Is(err, ErrSeal) {
				errs = append(errs, err)
				continue
			}
			if err != nil {
				errs = append(errs, err)
				break
			}
			done, err := s.reseal(ctx, kind, r)
			if done {
				n++
			}
			if err != nil {
				errs = append(errs, err)
			}
		}
	}
	return n, errors.Join(errs...)
}

func (s *Store) reseal(ctx context.Context, kind Kind, r Record) (done bool, _ error) {
	err := Retry(func() error {
		if done = len(r.Bytes) < recordHead || [8]byte(r.Bytes[1:9]) != s.ring.current().id; !done {
			return nil
		}
		d, err := s.open(&r)
		before := s.seen.version(kind, r.ID)
		if err == nil && r.Version < before {
			err = ErrConflict // or it was set back
		}
		if err == nil {
			r.Version++
			err = s.Commit(ctx, Tx{Writes: []Write{{r, d, s.NewEvent("record.resealed", Actor{}, EventID{}), nil}}})
		}
		if errors.Is(err, ErrConflict) { // somebody else has written it, perhaps with another key
			now, lerr := s.ledger.Load(ctx, kind, r.ID)
			if errors.Is(lerr, ErrNotFound) {
				done = false
				return nil
			}
			if lerr == nil && now.Version < before {
				lerr = s.takes(kind, r.ID, now.Version, before)
			}
			if lerr != nil {
				return lerr
			}
			r = now
		}
		return err
	})
	return done && err == nil, err
}

// tables returns the kinds of the tables on s.
func (s *Store) tables() []Kind {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.kinds)
}
