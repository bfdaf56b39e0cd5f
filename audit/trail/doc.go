// Package trail answers questions about a log of events: who did what to which object, when, with what outcome, and because of what. An [Index]
// follows the log and keeps of each event only where it stands; a [Query] narrows; what [Index.Ask] returns is read from the log again, and so
// verified, each time. The index is made from the log alone, by [Index.Update], and there is nothing else to keep or to back up.
//
// # Who may ask
//
// That is the host's to decide: whoever has an Index can read the whole trail through it. Nor is it recorded that somebody asked.
//
// # Two times
//
// [Query.From] and [Query.Until] are about when things were done: the time of the event. [Query.Size] is about what was known: only the first
// entries of the log are asked, as many as it had then. The two differ, because an event reaches the log after it was committed, and a node that could not
// write for an hour adds an hour of events late. What was done before noon is Until noon; what somebody who looked at noon could have seen is the Size
// at noon. [Index.SizeOf] takes that from a checkpoint that was kept, and proves that it is of this log; [Index.SizeAt] has no more to go by than the times
// of the events, and says how large the log can have been at most.
//
// # State
//
// Every version of an object has one event, with the digest of its state. So with [Query.Latest] and a Size an answer is a list of objects as they were
// then, each at its version; [Index.State] is that for one of them.
//
// # Pruning
//
// Of a log that was pruned ([merkle.Dir.Prune]) the index has what is left, from [merkle.Reader.First] on, without the first 256 entries. [Page.First] says
// so with each answer, and what was before is in none. What would be said of all of the log, and cannot be, is an error that wraps [merkle.ErrPruned]: the
// state of an object of which no event is left, the size at a time before the first one that is.
//
// # Exactness
//
// The index holds 64-bit hashes under a key of its own, not names. Each entry is compared with the query when it has been read, so what two names
// share a hash of is never in an answer that is not about it, and nothing is ever left out. Only for what is not read are hashes
// believed: [Index.Count], which events stand between a [Query.Ancestor] and what it led to, and which event is the [Query.Latest] of its object. Among a
// hundred million names the chance that any two share one is below one in a thousand.
//
// # Memory
//
// About 60 bytes for each event. An index is a list of segments that never change, of up to 32,768 events; an update adds some and joins small ones,
// and replaces the list when all of it is there. So questions never wait for an update, and one that is being answered goes on with the log as it was.
package trail
