// Package audit keeps state and what happened to it together, and makes both provable. Engines commit through a [Store], over a
// [Ledger] that a host can bring; a [Relay] moves the events into a log of package merkle; auditors need [Verify] and a [merkle.Reader].
// What may happen is not decided here.
//
// # Records and events
//
// A [Record] is one object at one version; a [Change] swaps some of them, each by version, and stores the events that describe it, all or
// nothing. Every version of a record has exactly one [Event] of which it is the object, with the digest of the record's state. A [Table] is
// the typed view of one kind of record. What a decision only read is named in [Tx.Reads], so that it cannot have changed by the time
// that its result is committed.
//
// # Bringing a ledger
//
// A host that keeps state in a database of its own implements [Ledger], four methods over three things that it stores: records, each under its
// kind and ID with a version, bytes and keys; events, in an order, each with its ID, its bytes and later an index; and the IDs of changes. All of one
// [Change] is written in one transaction of the database that is durable when it has been committed, or nothing is. What may be in a change is
// checked by [Change.Check]; a ledger calls it first and needs no checks of its own but those that the method's comment names. Nobody but the
// ledger has to understand what it stores. The whole contract is in the method comments; audittest.TestLedger and audittest.TestDurableLedger
// have a case for each sentence, and a ledger that passes them will do.
//
// # Seals
//
// A store seals what it commits: HMAC-SHA256, under a key of its [Keeper] that is never in the database, over the origin and
//
//	a record  its kind, ID, version, keys, value, and the digest of its last version
//	an event  its ID and its canonical form
//	the state of a scratch directory  itself
//
// What is stored is a version byte, eight bytes that name the key, the MAC, for a record the digest of its last version and a salt, and the value. A record
// that was inserted, edited, moved to another object or copied from another tenant is [ErrSeal] to whoever loads it, and such an event is not
// relayed; the error names it. Keys roll over: see [Keeper] and [Store.Reseal].
//
// The digest of a record's state, which its event and the seal are over, is over its kind, ID, version, the digest of its last version, and a commitment to its
// keys and value: their hash with a fresh salt of 128 bits, which is stored beside them. Once the next version has taken its place the salt is gone, and
// with it everything by which somebody could find out by trying what the log's digests stand for.
//
// What a seal does not show, because it was sealed: a record that was set back to an older version of itself, an index row that was hidden, a
// record that was deleted. [Store.VerifyState] finds these, by comparing every record with what the log tells of it, and names each; it can be
// run every night, see [Inspection]. A store takes
// no version that is older than one that it has seen, or than the log's end told of when it began ([Store.Recall]): that too is [ErrSeal]. An event
// whose mark was taken away is found in the log by the relay, which names it and does not append it again. What was undone together with its events
// before these were in the log leaves no trace but in the memory of the nodes, and nor does an event about no record that was
// deleted before; the relay makes that a matter of moments. A record that is set back between its being taken away on one node and the next question
// on another is believed there until that node hears of it again. That an index row no longer keeps its key unique is named when two records have it.
//
// # Time
//
// A store has one clock, and it does not go back. Where the ledger is a [Timekeeper] it goes by the database's, so that all nodes go by one, and
// otherwise by the machine's, or the host's. It is compared with what has passed on the monotonic one, but for the host's: a step back makes nothing
// last longer, and a jump ahead ends what time ends, is not recorded, and makes [Store.Commit] give nothing new until it was mended or
// [Store.ResetClock] was called. To a machine that was suspended every clock has jumped ahead.
//
// # Several nodes
//
// Any number of nodes may have a store on one ledger. Whoever takes something away says so with [Tx.Narrows]: in the same transaction the one record
// of [NarrowingKind] gets its next version, the epoch, which names what was taken. A node that calls [Store.Fresh] before it decides reads that one
// record, and hears of everything that was taken away before. What was given elsewhere it finds by reading anew what it would deny.
//
// # Without an answer
//
// Taking away does not wait for a ledger that does not answer: [Store.Take] returns [ErrUnrecorded], the node refuses, and [Store.Pay] records it
// when the ledger is back. That debt is in memory: a node that dies with it takes it along. It is the same with a record that is not as it was sealed,
// which nobody can write any more: the other nodes are told to read it anew, find it so too, and hold it for nothing.
//
// # Events
//
// The canonical form of an event is JSON as RFC 8785 writes it, narrowed: no fractions, integers within ±(2^53-1), times as strings in UTC with six
// decimals, no member twice, none that is unknown. [ParseEvent] accepts nothing else, so an event has one encoding. Events hold no secrets
// and no personal text. Identities have opaque, random IDs, by which whoever knows one's own can follow what it did; who that is, stands in records only.
//
// # Values beside the log
//
// What is personal, or has no room in a leaf of 65,535 bytes, is kept beside the log: the event has a commitment to it with a fresh salt of 128 bits
// ([Event.Keep], and [Event.Fit] for fields that are too large, which a store and a recorder call), and the value is a record of [ValueKind] in the ledger, written
// in the same transaction or, for direct events, before they are in the log. [Store.Opening] returns it with its salt; whoever has both and the event can verify them
// ([Opening.Commitment]), and nobody can without. The commitment is also to whom the value concerns, so that nobody else's are erased with it, and takes the place of a
// seal. That somebody took a value away, changed it, moved it or brought it back, [Store.VerifyState] names; one of which no event tells it passes over, for its event may be on its way.
//
// # Erasing
//
// [Store.Erase] takes away the values that concern an identity, and puts on the record which: the log stays as it is, so does every proof, and what
// they commit to cannot be opened any more. What records say of an identity is erased by the packages that own them, by a new version without it. Whether something may be erased is not
// decided here: see package lifecycle. A database keeps what was deleted in its own files until it reuses the room (PostgreSQL by VACUUM, SQLite with secure_delete or VACUUM),
// and backups keep it until they are thrown away.
//
// # The log
//
// The leaves of the log are events in canonical form. Leaf 0 is of [GenesisKind] and binds the keys. Order holds for each object and along causes: an
// event stands after the one that led to it.
//
// # Relay
//
// Committed events without a mark are pending. The relay appends them and marks them with their index. If it is interrupted between the two, it
// finds them in the log's tail by their IDs. An event that is [Event.Direct] was put into the log without a ledger (package audit/stream), and is
// none of its concern. Events that are not as they were sealed stay behind, and do not hold up others. Of several nodes on one
// ledger the one that has the log's lock relays; when it has closed the log, or its process has ended, another takes over.
//
// A log that ends with what the ledger does not know is [ErrRewound]: the ledger was set back, as by failing over to a standby that lagged, or by
// restoring a backup. So is a ledger that has given an index beyond the log's end to an event that the log does not have, if it is a [Rewinder]: then
// the log was set back. Nothing is relayed then; see "Recovery". When the oldest pending event has waited for longer than [RelayConfig.MaxLag], nothing is recorded but
// what takes away, and with [RelayConfig.Strict] nothing new is given as soon as the log cannot be written.
//
// # Setting back
//
// What comes of it when the administrator of the machine sets back the database, the log's directory, the log's mark ([merkle.WithMark]), or some of them
// together, while nothing runs:
//
//	database                    the system does not start: ErrRewound. Recover: nothing is lost but records of the database
//	log, with a mark            the log does not open: merkle.ErrRewound. Put back the newest copy of the log that anybody has, and recover
//	log, without a mark         the system does not start: ErrRewound; with a ledger that is no Rewinder, nothing more gets into the log. Recover:
//	                            nothing is lost but direct events
//	database and log, a mark    the log does not open: merkle.ErrRewound. Put back the newest copy of the log, and recover; what neither copy has is lost
//	all that is on the machine  it goes on from there, unless the one is older than the other. Recover by force, with the checkpoints that others know
//	the database that the log   running nodes refuse it: ErrRewound; one that is started goes on from there. Put back the log from a mirror, and
//	is in                       recover; or recover by force, with the checkpoints that others know
//
// In each case whoever has seen a later checkpoint, as a [merkle.Mirror] on another machine has, finds that the log went back. Nobody else can: a mark, a
// mirror or a witness must be where the administrator is not.
//
// # Pruning
//
// The log's beginning can be taken away ([merkle.Dir.Prune], [LedgerLog.Prune]); the first 256 entries stay, and the genesis with them. An event of [PrunedKind] must
// be in the log first, and stay in it: of one that has lost its beginning without that, [Verify] says that entries are missing. Causes and earlier versions that
// were in what is missing are taken for there.
//
// What has been pruned nobody can be told any more. [Trace] and the answers of package trail say so, by [merkle.ErrPruned], and a sink of package stream that
// has not had it is told so. [Store.VerifyState] needs what the log told of each object, from its first entry on: so only an [Inspection] whose Scratch has that,
// from before, can go on. A [Relay] cannot search it for an event that waits: one that is older than all that is left is held back, as [ErrSeal], for
// it may have been in the log. So prune what is older than anything that can still wait, and what each inspection, mirror and node has read.
//
// # Recovery
//
// [Relay.Recover] makes ledger and log belong together again after an older copy of either or of both was restored, while nobody else is on them. No event that
// one of them has is lost, and no version of a record is ever told twice:
//
//   - What only the ledger has goes back into the log. As far as nothing between is missing each event gets the index that it had, so that whoever has seen a
//     later checkpoint sees no fork. Direct events, which no ledger has, can be missing: what stands behind them is moved.
//   - What only the log has the ledger learns again: the events, with their marks. So both know the same, and setting back either once more is found as before.
//   - A record of which the log tells a later version than the ledger has climbs to that version as it is, and gets the next one with an event in the
//     log. What that is the owner of its kind says, by a [Mending]: never more than both the backup and the log give anybody.
//   - Values beside the log that were erased are erased again. Those that the backup does not have are told of as lost, by events of [LostKind].
//   - What is open ends, whether it was set back or not: nobody knows what was to end it.
//
// A record of [RecoveryKind] says from the first change on that a recovery is not over, and no relay goes on until it is. It may be interrupted anywhere, and is
// called again then. The checkpoints that the log had, and does not go on from any more, are declared in its last event, of [RecoveredKind], which is a leaf of the
// log like any other: a gap that is signed. [Gaps] finds them.
//
// It refuses, and changes nothing, where a record or an event is not as it was sealed, or a key of a record leads elsewhere: no backup does that. And it
// refuses two copies that both went on, each with a version of its own of the same record. To use an old copy of an [Inspection.Scratch] beside a log that is
// shorter than that knows is an error; take an empty one.
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
// The forms of events, seals, receipts and the log are stored, and change only under a new version in their domain strings. That of a scratch
// directory may change, and what an older program left in one is refused then: an empty one takes its place. The Go API may change before the
// first release.
package audit
