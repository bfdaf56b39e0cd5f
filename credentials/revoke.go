package credentials

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
)

// IntentTimeout is how long an intent may be without an outcome before [Issuer.Sweep] revokes it.
const IntentTimeout = time.Minute

// revokedMemory is for how long after its NotAfter a revoked serial is remembered, for checkers whose clocks are behind.
const revokedMemory = time.Hour

// What has become of a credential. From intended it becomes any other, from issued failed or revoked; those two are final.
const (
	statusIntended = "intended"
	statusIssued   = "issued"
	statusFailed   = "failed"
	statusRevoked  = "revoked"
)

// A record is what is stored of a credential. Its ID is the serial.
type record struct {
	Type       string        `json:"type"`
	Status     string        `json:"status"`
	Chain      []identity.ID `json:"chain"` // from the subject to the holder
	Grant      string        `json:"grant"`
	Principals []string      `json:"principals"`
	Bind       audit.Digest  `json:"bind"` // of the credential without its receipt
	NotBefore  time.Time     `json:"notBefore"`
	NotAfter   time.Time     `json:"notAfter"`
	Intended   audit.EventID `json:"intended"`
}

func (r *record) over() bool { return r.Status == statusFailed || r.Status == statusRevoked }

func keysOf(r *record) (index, unique []audit.Key) {
	index = []audit.Key{"status/" + audit.Key(r.Status), "grant/" + audit.Key(r.Grant)}
	for _, id := range r.Chain {
		index = append(index, "chain/"+audit.Key(id.String()))
	}
	return index, nil
}

// Revoked reports whether the credential was revoked or has failed, as far as this issuer knows: what another one on the same
// ledger revoked it learns from [Issuer.Sweep]. A serial that is not known is not revoked, and one is forgotten an hour after its NotAfter.
func (i *Issuer) Revoked(serial Serial) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, ok := i.revoked[serial]
	return ok
}

func (i *Issuer) mark(serial Serial, notAfter time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.revoked[serial] = notAfter
}

// Revoke ends the credential. Everybody on its chain may and those who control them, and whoever the authority allows
// "credential:revoke" on one of them. Doing it again has no further effect. The error wraps [audit.ErrNotFound] if there is no such credential; after
// any error that came later than the caller's refusal the credential counts as revoked here, but may not be on the record.
func (i *Issuer) Revoke(ctx context.Context, c identity.Caller, serial Serial, cause audit.EventID) error {
	row, err := i.table.Load(ctx, audit.ID(serial.String()))
	if err != nil {
		return fmt.Errorf("credentials: %s: %w", serial, err)
	}
	return i.revoke(ctx, c, row, cause)
}

func (i *Issuer) revoke(ctx context.Context, c identity.Caller, row audit.Row[record], cause audit.EventID) error {
	serial, err := ParseSerial(string(row.ID))
	if err != nil {
		return err
	}
	for _, id := range row.Value.Chain {
		if err = i.cfg.Gate.MayTakeAway(ctx, c, id, i.cfg.Authority, "credential:revoke"); err == nil {
			break
		}
	}
	if err != nil {
		return refuse(fmt.Errorf("%s: %w", serial, err))
	}
	return i.end(ctx, serial, row.Value.NotAfter, statusRevoked, audit.ActorOf(c), cause)
}

// end makes the credential count as revoked, and then records that it is over, if that is not recorded yet.
func (i *Issuer) end(ctx context.Context, serial Serial, notAfter time.Time, status string, actor audit.Actor, cause audit.EventID) error {
	i.mark(serial, notAfter)
	err := audit.Retry(func() error {
		row, err := i.table.Load(ctx, audit.ID(serial.String()))
		if err != nil {
			return err
		}
		if row.Value.over() {
			return nil
		}
		row.Value.Status = status
		e := i.cfg.Store.NewEvent("credential."+status, actor, cause)
		if status == statusFailed {
			e.Outcome = audit.Failure
		}
		return i.commit(ctx, row, e, nil)
	})
	if err != nil {
		return fmt.Errorf("credentials: %s is %s, but that is not recorded: %w", serial, status, err)
	}
	return nil
}

// Settle revokes, in the library's own name, every credential that rests on the grant, if that has ended before its time. It returns the
// serials of those whose NotAfter lies ahead. What fails does not keep it from the others; the error joins what went wrong.
func (i *Issuer) Settle(ctx context.Context, grant string) (live []Serial, _ error) {
	cause, err := i.ended(ctx, grant)
	if err != nil || cause.IsZero() {
		return nil, err
	}
	var errs []error
	for row, err := range i.of(ctx, "grant/"+audit.Key(grant)) {
		if err == nil && i.cfg.Store.Now().Before(row.Value.NotAfter) {
			serial, _ := ParseSerial(string(row.ID))
			live = append(live, serial)
			err = i.end(ctx, serial, row.Value.NotAfter, statusRevoked, audit.Actor{}, cause)
		}
		errs = append(errs, err)
	}
	return live, errors.Join(errs...)
}

func (i *Issuer) ended(ctx context.Context, grant string) (audit.EventID, error) {
	if i.cfg.Live == nil {
		return audit.EventID{}, nil
	}
	return identity.Guard("live view", func() (audit.EventID, error) { return i.cfg.Live.Ended(ctx, grant) })
}

// of yields the credentials that have the index key.
func (i *Issuer) of(ctx context.Context, key audit.Key) iter.Seq2[audit.Row[record], error] {
	return func(yield func(audit.Row[record], error) bool) {
		for row, err := range i.table.Scan(ctx, key) {
			// The scan is by prefix, and a longer key starts with this one.
			if keys, _ := keysOf(&row.Value); err == nil && !slices.Contains(keys, key) {
				continue
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

// RevokeSubject is [Issuer.Revoke] for every live credential that has id on its chain: as its subject, its holder, or an agent between.
func (i *Issuer) RevokeSubject(ctx context.Context, c identity.Caller, id identity.ID, cause audit.EventID) (done []Serial, _ error) {
	now := i.cfg.Store.Now()
	if _, err := i.cfg.Gate.Admit(c, now); err != nil {
		return nil, refuse(err)
	}
	var errs []error
	for row, err := range i.of(ctx, "chain/"+audit.Key(id.String())) {
		if err == nil {
			if row.Value.over() || !now.Before(row.Value.NotAfter) {
				continue
			}
			if err = i.revoke(ctx, c, row, cause); err == nil {
				serial, _ := ParseSerial(string(row.ID))
				done = append(done, serial)
			}
		}
		errs = append(errs, err)
	}
	return done, errors.Join(errs...)
}

// Sweep revokes, in the library's own name, every intent that has had no outcome for [IntentTimeout] and every credential whose grant has
// ended, and learns what other issuers on the same ledger revoked. A record whose seal is broken does not keep it from the others.
func (i *Issuer) Sweep(ctx context.Context) error {
	var errs []error
	now := i.cfg.Store.Now()
	for row, err := range i.table.Scan(ctx, "status/"+statusIntended) {
		serial, _ := ParseSerial(string(row.ID))
		if err == nil && !now.Before(row.Value.NotBefore.Add(IntentTimeout)) {
			err = i.end(ctx, serial, row.Value.NotAfter, statusRevoked, audit.Actor{}, row.Value.Intended)
		}
		errs = append(errs, err)
	}
	ended := map[string]bool{}
	for row, err := range i.table.Scan(ctx, "status/"+statusIssued) {
		if err == nil && now.Before(row.Value.NotAfter) && !ended[row.Value.Grant] {
			ended[row.Value.Grant] = true
			_, err = i.Settle(ctx, row.Value.Grant)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, i.load(ctx))...)
}

// load learns what is over and forgets what has long expired.
func (i *Issuer) load(ctx context.Context) error {
	var errs []error
	now := i.cfg.Store.Now()
	for _, status := range []audit.Key{statusFailed, statusRevoked} {
		for row, err := range i.table.Scan(ctx, "status/"+status) {
			serial, _ := ParseSerial(string(row.ID))
			if err == nil {
				i.mark(serial, row.Value.NotAfter)
			}
			errs = append(errs, err)
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for serial, end := range i.revoked {
		if now.After(end.Add(revokedMemory)) {
			delete(i.revoked, serial)
		}
	}
	return errors.Join(errs...)
}
