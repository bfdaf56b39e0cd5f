// Package stream takes events about no record straight into the log, and passes on what is in the log.
//
// # Recording
//
// Uses, the heads of recordings and decisions change no state, and there are many of them. A [Recorder] puts them into the log without a ledger, in the order
// in which they come, and each after the event that led to it. What becomes of a kind of event is said by its [Class]: it is durable before
// [Recorder.Record] returns; or a bounded number waits, and may be lost in a crash; or of events alike only some are taken. Where another node has
// the log, events go by way of the ledger.
//
// What was not taken is counted, and an event of [GapKind] says how many of what kind it were, and why. A recorder with a class that spools
// says by an event of [OpenedKind] how many events a crash may take, and by one of [ClosedKind], whose cause that is, that none was taken.
//
// # Passing on
//
// A [Follower] hands the log's entries to one [Sink], in order, at least once each, from where it was. The log is the buffer: a sink that hangs, fails or
// is away holds up nobody, loses nothing, and is told about by [Follower.State].
package stream
