// Package monitor follows somebody's log from outside, and tells whoever is concerned: an identity's owner of every grant and every credential in her name, and
// others of a principal, an issuer or a role that they watch. A [Monitor] needs the log's files and its verifier key, and nobody's leave: the files may be on a
// disk, or what [witness.HTTPFiles] reads. [New] makes one, and [Monitor.Run] goes on until it is stopped; [Monitor.Look] is one round of that.
//
// # What is watched
//
// By privilege somebody is given a grant, a credential or a delegation. Each change of one has exactly one event, which has the record as its object: a watch is
// told of these events and of no others, whatever kind they are of, also one that this package does not know. Only record.resealed is left out, which
// says that a record is the same under another seal key. What is done with a grant, what is refused, and what somebody has by standing
// assignments is no matter of a monitor, but of packages trail and rbac/analysis.
//
//	identity   it is the event's subject, which for a grant and a credential is the human at the head of the chain; or it did it, or whoever did it acted
//	           for it or through it; or it holds the credential, or the delegation is to it. Then also what becomes of a credential or
//	           delegation that it had to do with.
//	principal  the credential is for it; and what becomes of that
//	issuer     the key signs credentials of that type, as the log's first event says. Each event about a credential has the type.
//	type       the same, by the type
//	role       the grant is of it, and what becomes of that; and so for all credentials that rest on such a grant
//
// The identity's ID is all that the log knows of who somebody is. It is opaque and random, and by it alone can its owner follow the log. Once whoever can say
// whose ID it is has forgotten, as by erasing, nobody can any more, and nothing else needs to be erased for that.
//
// # What is not told
//
// The names of principals can be people's, and the log has no more of them than a commitment, in the event by which a credential is intended. A monitor of a
// principal needs somebody to open it ([Config.Open]), and verifies what it gets. Where there is nobody, where the value was erased, and where what was given is not
// what the log commits to, the watch is told of the credential all the same, with a [Notice.Doubt]: that there is a credential, and for whom is not told. A monitor is
// never silent about what it does not know. So it tells every watch of an entry that is no event of the log ([ErrUnreadable]), which is an alarm too, and of an event
// that lacks what the watch goes by.
//
// What a log's host has made up, it has made up: a commitment to other principals than those of the certificate, or a credential that is not in the log at all. That
// is for those who are shown the credential: by its receipt, see package credentials.
//
// # Once at least
//
// A notice that [Config.Tell] has not taken comes again, before anything after it. A view is saved after what it says was told has been; so what was told between
// the last time and a crash is told again, and nothing is passed over: at least once, and for each watch in the order of the log. Watch and index
// together name a notice, for whoever wants to hear it once.
//
// The view that was saved knows how far each watch was told. A watch that is new begins at [Config.From], and the others go on. Its [Position] has in Since the entry
// from which on it is told of everything that is given. If that is not the log's beginning, it does not know what was given before: that something of that ends it is
// not told, and whatever gives more on the strength of it comes with a doubt.
//
// A round reads new entries, and of the tree what proves them: it costs what is new. Entries are read one bundle at a time, and the view is saved after every
// 1,024. What it knows of grants and credentials it keeps until a day after they are over, and no more than 16,384 of them at a time: of more it forgets those that
// end first, says so, and Since of those watches moves.
//
// # Whether the log is what it was
//
// Nothing is told but under a checkpoint that the log's key has signed, that the policy accepts, that goes on from the last one, and that was saved. Each of
// these is an alarm, which comes again in each round:
//
//   - The log has two histories: [merkle.ErrForked]. The two checkpoints, with what proves to everybody that they cannot be of one log, are kept as [Evidence] in
//     the view, for good. What was seen stays what it was.
//   - The log is smaller than it was: [merkle.ErrRewound]. Both checkpoints are kept, but prove nothing: it may be an old copy. If the log grows again, it has to go on
//     from what was seen.
//   - Entries or tiles are not those of the checkpoint, or cannot be read: what they hold is not told.
//   - The log has stalled: [ErrStalled].
//
// After the checkpoint could not be taken, what is left to tell under the last one is told.
//
// A log that was pruned begins later. Entries that are not there, and of which an event of [audit.PrunedKind] says that they may be missing, are passed over, and
// the alarm is told which, with [merkle.ErrPruned]; without that event it is an error, and they are waited for. Whether the log goes on from a checkpoint
// that lies before its beginning cannot be verified: that stays an error until somebody begins anew, without Last.
//
// # Stalling
//
// Who withholds what is new shows an old log, and an idle one looks the same. What tells them apart is a sign of life that the log's operator cannot give alone. With
// a policy that demands witnesses that is the time at which a quorum of them cosigned ([witness.Policy.SeenAt]): cosignatures of the same size will do, as long as they
// are newer. A time from the future counts once, as now. Without witnesses there is nothing but growth, by the monitor's clock: then Stall has to be longer than the log
// is ever idle, or somebody has to put an event into it every so often. That a log grows does not show that it holds all that it should: for that there are
// receipts, whose promises [witness.Policy.Reconcile] holds it to.
//
// # Stability
//
// The form of a saved view may change, and what an older program has left is refused then. The Go API may change before the first release.
package monitor
