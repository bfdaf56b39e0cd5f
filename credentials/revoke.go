package credentials

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
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

// Revoked reports whether the credential was revoked or has failed, on any node on the ledger: it reads one record where [audit.Store.Fresh]
// does. If that cannot be told, it is. A serial that is not known is not revoked, and one is forgotten an hour after its NotAfter.
// Where an index row of a credential was hidden from whoever revoked its grant, those who know it count it as revoked, and [audit.Store.VerifyState] names
// it; for others it ends with its NotAfter.
func (i *Issuer) Revoked(ctx context.Context, serial Serial) bool {
	err := i.cfg.Store.Fresh(ctx)
	over, known := i.isOver(serial)
	if err == nil && !known && i.cfg.Store.HasSeen(Kind, audit.ID(serial.String())) { // it has expired, or gone
		err = i.Refresh(ctx, serial)
		over, _ = i.isOver(serial)
	}
	return over || err != nil
}

func (i *Issuer) isOver(serial Serial) (over, known bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, over = i.revoked[serial]
	_, live := i.live[serial]
	return over, over || live
}

func (i *Issuer) mark(serial Serial, notAfter time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ends(serial, notAfter)
}

// ends makes the credential count as revoked. Whoever calls it holds the lock.
func (i *Issuer) ends(serial Serial, notAfter time.Time) {
	i.revoked[serial] = notAfter
	if r, ok := i.live[serial]; ok {
		i.ending[serial] = r
		delete(i.live, serial)
	}
}

// recorded forgets what the credential was: that it is over is on the record.
func (i *Issuer) recorded(serial Serial) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.ending, serial)
}

// unseen yields the credentials that are out, or of which it is not recorded that they are over, as this issuer knows them: those that the ledger
// should have shown, and has not, or not as they were sealed.
func (i *Issuer) unseen(seen map[audit.ID]bool, which func(r *record) bool) []audit.Row[record] {
	i.mu.Lock()
	defer i.mu.Unlock()
	var rows []audit.Row[record]
	for _, all := range []map[Serial]record{i.live, i.ending} {
		for serial, r := range all {
			if id := audit.ID(serial.String()); !seen[id] && which(&r) {
				rows = append(rows, audit.Row[record]{ID: id, Value: r})
			}
		}
	}
	slices.SortFunc(rows, func(a, b audit.Row[record]) int { return cmp.Compare(a.ID, b.ID) })
	return rows
}

// know remembers a credential that is out, or may be.
func (i *Issuer) know(serial Serial, r record) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, over := i.revoked[serial]; !over {
		i.live[serial] = r
	}
}

// Cut makes every credential that rests on the grant, and that this issuer knows to be out, count as revoked here, and returns their serials. It
// is for a grant that has ended, and [Issuer.Settle] records it.
func (i *Issuer) Cut(grant string) []Serial {
	return i.cut(func(r *record) bool { return r.Grant == grant })
}

// CutChain is [Issuer.Cut] for the credentials that have the identity on their chain. It is for one that may not act any more.
func (i *Issuer) CutChain(id identity.ID) []Serial {
	return i.cut(func(r *record) bool { return slices.Contains(r.Chain, id) })
}

func (i *Issuer) cut(which func(r *record) bool) (cut []Serial) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for serial, r := range i.live {
		if which(&r) {
			cut = append(cut, serial)
			i.ends(serial, r.NotAfter)
		}
	}
	slices.Sort(cut)
	return cut
}

// Refresh reads the credential anew, for what was done about it on another node. One that is not as it was sealed counts as revoked.
func (i *Issuer) Refresh(ctx context.Context, serial Serial) error {
	row, err := i.table.Load(ctx, audit.ID(serial.String()))
	switch {
	case errors.Is(err, audit.ErrSeal): // it has gone, perhaps
		i.mark(serial, i.cfg.Store.Now().Add(i.cfg.MaxLifetime))
		return nil
	case errors.Is(err, audit.ErrNotFound):
		return nil
	case err == nil:
		i.see(serial, row.Value)
	}
	return err
}

// RefreshGrant makes every credential that rests on the grant count as revoked here, if the grant has ended on another node: that one may not
// have come as far as its credentials.
func (i *Issuer) RefreshGrant(ctx context.Context, grant string) error {
	cause, err := i.ended(ctx, grant)
	if over := errors.Is(err, audit.ErrSeal) || errors.Is(err, audit.ErrNotFound); !over && (err != nil || cause.IsZero()) {
		return err
	}
	i.Cut(grant) // whether the ledger shows them or not
	var errs []error
	for row, err := range i.of(ctx, "grant/"+audit.Key(grant)) {
		if serial, _ := ParseSerial(string(row.ID)); err == nil {
			i.mark(serial, row.Value.NotAfter)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// led returns the credential that a row led to which is not as it was sealed, and whether it may be one of those: by its record if that is sound, by what
// is known here, or because nobody can say that it is not.
func (i *Issuer) led(ctx context.Context, id audit.ID, which func(r *record) bool) (audit.Row[record], bool) {
	serial, err := ParseSerial(string(id))
	if err != nil {
		return audit.Row[record]{}, false
	}
	row, err := i.table.Load(ctx, id)
	if err == nil {
		return row, which(&row.Value)
	}
	if r, ok := i.known(serial); ok {
		return audit.Row[record]{ID: id, Value: r}, which(&r)
	}
	return audit.Row[record]{ID: id, Value: record{NotAfter: i.cfg.Store.Now().Add(i.cfg.MaxLifetime)}}, errors.Is(err, audit.ErrSeal)
}

func (i *Issuer) see(serial Serial, r record) {
	if i.cfg.Store.Now().After(r.NotAfter.Add(revokedMemory)) {
		return
	}
	if r.over() {
		i.mark(serial, r.NotAfter)
		i.recorded(serial)
	} else {
		i.know(serial, r)
	}
}

// Revoke ends the credential. Everybody on its chain may and those who control them, and whoever the authority allows
// "credential:revoke" on one of them. Doing it again has no further effect. The error wraps [audit.ErrNotFound] if there is no such credential; after
// any error that came later than the caller's refusal the credential counts as revoked here, but may not be on the record; if the ledger does not
// answer, that error wraps [audit.ErrUnrecorded].
func (i *Issuer) Revoke(ctx context.Context, c identity.Caller, serial Serial, cause audit.EventID) error {
	row, err := i.table.Load(ctx, audit.ID(serial.String()))
	if r, ok := i.known(serial); ok && err != nil {
		row, err = audit.Row[record]{ID: audit.ID(serial.String()), Value: r}, nil
	}
	if errors.Is(err, audit.ErrSeal) {
		if _, denied := i.cfg.Gate.Admit(c, i.cfg.Store.Now()); denied == nil {
			return i.unknown(ctx, c, serial, cause, err)
		}
	}
	if err != nil {
		return fmt.Errorf("credentials: %s: %w", serial, err)
	}
	return i.revoke(ctx, c, row, cause)
}

// unknown is Revoke where nothing is known of the credential here and its record is not as it was sealed: it counts as revoked, the other nodes are told,
// and what can be done is, once it is.
func (i *Issuer) unknown(ctx context.Context, c identity.Caller, serial Serial, cause audit.EventID, broken error) error {
	i.mark(serial, i.cfg.Store.Now().Add(i.cfg.MaxLifetime))
	about := audit.Taken{Kind: Kind, ID: audit.ID(serial.String())}
	return i.cfg.Store.Take(ctx, "credential "+serial.String(), about, func(context.Context) error { return broken }, func(ctx context.Context) error {
		_, err := i.table.Load(ctx, about.ID)
		if err == nil {
			err = i.Revoke(ctx, c, serial, cause)
		}
		if errors.Is(err, identity.ErrDenied) || errors.Is(err, audit.ErrNotFound) && !errors.Is(err, audit.ErrSeal) {
			return nil
		}
		return err
	})
}

// Known returns the serials of the credentials that rest on the grant and that this issuer knows to be out.
func (i *Issuer) Known(grant string) (live []Serial) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for serial, r := range i.live {
		if r.Grant == grant && i.cfg.Store.Now().Before(r.NotAfter) {
			live = append(live, serial)
		}
	}
	slices.Sort(live)
	return live
}

func (i *Issuer) known(serial Serial) (record, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	r, ok := i.live[serial]
	return r, ok
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
	record := func(ctx context.Context) error { return i.record(ctx, serial, status, actor, cause) }
	if err := i.cfg.Store.Take(ctx, "credential "+serial.String(), audit.Taken{Kind: Kind, ID: audit.ID(serial.String())}, record, record); err != nil {
		return fmt.Errorf("credentials: %s is %s, but that is not recorded: %w", serial, status, err)
	}
	return nil
}

func (i *Issuer) record(ctx context.Context, serial Serial, status string, actor audit.Actor, cause audit.EventID) error {
	err := audit.Retry(func() error {
		row, err := i.table.Load(ctx, audit.ID(serial.String()))
		if err != nil {
			return err
		}
		if row.Value.over() {
			return i.cfg.Store.Confirm(ctx, i.table.Read(row))
		}
		row.Value.Status = status
		e := i.cfg.Store.NewEvent("credential."+status, actor, cause)
		if status == statusFailed {
			e.Outcome = audit.Failure
		}
		return i.commit(ctx, row, e, nil)
	})
	if err == nil {
		i.recorded(serial)
	}
	return err
}

// Settle revokes, in the library's own name, every credential that rests on the grant, if that has ended before its time or is not as it was
// sealed. It returns the serials of those whose NotAfter lies ahead. What fails does not keep it from the others; the error joins what went wrong. If the ledger does not
// answer, it is done when it does, and the error wraps [audit.ErrUnrecorded].
func (i *Issuer) Settle(ctx context.Context, grant string) (live []Serial, _ error) {
	owe := func(err error) error {
		return i.cfg.Store.Take(ctx, "credentials of grant "+grant, audit.Taken{}, func(context.Context) error { return err }, func(ctx context.Context) error {
			_, err := i.Settle(ctx, grant)
			return err
		})
	}
	cause, err := i.ended(ctx, grant)
	if audit.Unanswered(err) {
		err = owe(err)
	}
	broken := errors.Is(err, audit.ErrSeal) // then it holds for nothing
	if !broken && (err != nil || cause.IsZero()) {
		return nil, err
	}
	errs := []error{err}
	seen := map[audit.ID]bool{}
	one := func(row audit.Row[record]) {
		if seen[row.ID] = true; i.cfg.Store.Now().Before(row.Value.NotAfter) {
			serial, _ := ParseSerial(string(row.ID))
			live = append(live, serial)
			errs = append(errs, i.end(ctx, serial, row.Value.NotAfter, statusRevoked, audit.Actor{}, cause))
		}
	}
	rests := func(r *record) bool { return r.Grant == grant }
	for row, err := range i.of(ctx, "grant/"+audit.Key(grant)) {
		if audit.Unanswered(err) {
			return live, errors.Join(append(errs, owe(err))...)
		}
		if err == nil {
			one(row)
		} else if led, may := i.led(ctx, row.ID, rests); may && !seen[led.ID] {
			one(led)
		}
		errs = append(errs, err)
	}
	for _, row := range i.unseen(seen, rests) {
		one(row)
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
// If the ledger does not answer, those that this issuer knows count as revoked here.
func (i *Issuer) RevokeSubject(ctx context.Context, c identity.Caller, id identity.ID, cause audit.EventID) (done []Serial, _ error) {
	if _, err := i.cfg.Gate.Admit(c, i.cfg.Store.Now()); err != nil {
		return nil, refuse(err)
	}
	done, unread, err := i.revokeAll(ctx, id, func(row audit.Row[record]) error {
		return i.revoke(ctx, c, row, cause)
	})
	if unread != nil {
		if err := i.cfg.Gate.MayTakeAway(ctx, c, id, i.cfg.Authority, "credential:revoke"); err != nil {
			return done, refuse(err)
		}
		more, owed := i.unheard(ctx, audit.ActorOf(c), id, cause, unread)
		return append(done, more...), errors.Join(err, owed)
	}
	if err == nil && len(done) == 0 {
		err = i.cfg.Store.Confirm(ctx)
	}
	return done, err
}

// revokeAll calls one for each live credential with id on its chain. The error unread says that the ledger has not shown all of them.
func (i *Issuer) revokeAll(ctx context.Context, id identity.ID, one func(row audit.Row[record]) error) (done []Serial, unread, _ error) {
	now := i.cfg.Store.Now()
	var errs []error
	seen := map[audit.ID]bool{}
	revoke := func(row audit.Row[record]) {
		if seen[row.ID] = true; row.Value.over() || !now.Before(row.Value.NotAfter) {
			return
		}
		err := one(row)
		if err == nil {
			serial, _ := ParseSerial(string(row.ID))
			done = append(done, serial)
		}
		errs = append(errs, err)
	}
	chained := func(r *record) bool { return slices.Contains(r.Chain, id) }
	for row, err := range i.of(ctx, "chain/"+audit.Key(id.String())) {
		if audit.Unanswered(err) {
			return done, err, errors.Join(errs...)
		}
		if err == nil {
			revoke(row)
		} else if led, may := i.led(ctx, row.ID, chained); may && !seen[led.ID] {
			if len(led.Value.Chain) == 0 {
				led.Value.Chain = []identity.ID{id}
			}
			revoke(led)
		}
		errs = append(errs, err)
	}
	for _, row := range i.unseen(seen, chained) {
		revoke(row)
	}
	return done, nil, errors.Join(errs...)
}

// unheard is revokeAll without the ledger: at once for what is known here, and for all when the ledger answers.
func (i *Issuer) unheard(ctx context.Context, actor audit.Actor, id identity.ID, cause audit.EventID, err error) ([]Serial, error) {
	done := i.cut(func(r *record) bool { return slices.Contains(r.Chain, id) })
	return done, i.cfg.Store.Take(ctx, "credentials of "+id.String(), audit.Taken{}, func(context.Context) error { return err }, func(ctx context.Context) error {
		_, unread, err := i.revokeAll(ctx, id, func(row audit.Row[record]) error {
			serial, err := ParseSerial(string(row.ID))
			if err == nil {
				err = i.end(ctx, serial, row.Value.NotAfter, statusRevoked, actor, cause)
			}
			return err
		})
		return errors.Join(unread, err)
	})
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
	return errors.Join(append(errs, i.load(ctx)...)...)
}

// load learns what is over and what is out, and forgets what has long expired. It goes on past errors, and returns each.
func (i *Issuer) load(ctx context.Context) (errs []error) {
	now := i.cfg.Store.Now()
	for _, status := range []audit.Key{statusFailed, statusRevoked, statusIntended, statusIssued} {
		for row, err := range i.table.Scan(ctx, "status/"+status) {
			serial, _ := ParseSerial(string(row.ID))
			switch {
			case errors.Is(err, audit.ErrSeal) && serial != 0: // the record, or no more than its index
				err = errors.Join(err, i.Refresh(ctx, serial))
			case err == nil && (row.Value.over() || now.Before(row.Value.NotAfter)):
				i.see(serial, row.Value)
			}
			if err != nil {
				errs = append(errs, err)
			}
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for serial, end := range i.revoked {
		if now.After(end.Add(revokedMemory)) {
			delete(i.revoked, serial)
		}
	}
	for _, all := range []map[Serial]record{i.live, i.ending} {
		for serial, r := range all {
			if !now.Before(r.NotAfter) {
				delete(all, serial)
			}
		}
	}
	return errs
}

// RefreshAll is [Issuer.Refresh] for every credential, of the ledger's and of those that this issuer knows to be out. It goes on past errors, and
// returns each.
func (i *Issuer) RefreshAll(ctx context.Context) []error {
	errs := i.load(ctx)
	i.mu.Lock()
	serials := slices.Collect(maps.Keys(i.live))
	i.mu.Unlock()
	for _, serial := range serials {
		if err := i.Refresh(ctx, serial); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}
