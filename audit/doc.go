// Package audit keeps state and what happened to it together, and makes both provable. Engines commit through a [Store], over a
// [Ledger] that a host can bring; a [Relay] moves the events into a [Log], [OpenLog]'s directory or a host's own; auditors need [Verify] and a
// [Reader]. What may happen is not decided here.
//
// # Records and events
//
// A [Record] is one object at one version; a [Change] swaps some of them, each by version, and stores the events that describe it, all or
// nothing. Every version of a record has exactly one [Event] of which it is the object, with the digest of the record's state. A [Table] is
// the typed view of one kind of record. What a decision only read is named in [Tx.Reads], so that it cannot have changed by the time
// that its result is committed.
//
// # Seals
//
// A store seals what it commits: HMAC-SHA256, under a key that is never in the database, over the origin and
//
//	a record  its kind, ID, version, keys, value, and the digest of its last version
//	an event  its ID and its canonical form
//
// A record that was inserted, edited or moved by somebody else is [ErrSeal] to whoever loads it, and an event is not relayed. What a seal does
// not show, because it was sealed: a record that was set back to an older version of itself, a change that the database refused and somebody
// inserted later, an index row that was hidden, an event about no record that was deleted before it was relayed. Whoever administers the
// database can do these. Comparing the records with the log finds what has an object. An event whose mark was taken back is appended again, and
// [Verify] refuses a log with an event that is there twice.
//
// # Events
//
// The canonical form of an event is JSON as RFC 8785 writes it, narrowed: no fractions, integers within ±(2^53-1), times as strings in UTC with six
// decimals, no member twice, none that is unknown. [ParseEvent] accepts nothing else, so an event has one encoding. Events hold no secrets
// and no personal text.
//
// # The log
//
// A log is what https://c2sp.org/tlog-tiles describes, with checkpoints after https://c2sp.org/tlog-checkpoint signed by Ed25519. Its leaves are
// events in canonical form, hashed after RFC 6962 section 2.1. Leaf 0 is of [GenesisKind] and binds the keys. There is one writer; what is
// appended is durable, and covered by a signed checkpoint, before [Log.Append] returns. Order holds for each object and along causes: an event stands after
// the one that led to it.
//
// # Relay
//
// Committed events without a mark are pending. The relay appends them and marks them with their index. If it is interrupted between the two, it
// finds them in the log's tail by their IDs. Events that are not as they were sealed stay behind, and do not hold up others.
//
// # Receipts
//
// A [Receipt] promises that an event will be in the log by a deadline, and says by hash what it is a receipt for. It is a signed note
// (https://c2sp.org/signed-note) by a key of its own, of the form
//
//	bailiwick.receipt/v1
//	<origin>
//	<leaf hash, hexadecimal>
//	<bind, hexadecimal>
//	<time, microseconds since 1970>
//	<minimum size>
//	<deadline, microseconds since 1970>
//
// # Stability
//
// The forms of events, seals, receipts and the log are stored, and change only under a new version in their domain strings. The Go API
// may change before the first release.
package audit
