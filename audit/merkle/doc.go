// Package merkle is an append-only log that proves what is in it: [OpenDir]'s directory, or a host's own [Log]; [Reader] and the functions that verify
// are all that an auditor needs. It knows bytes and no events.
//
// A log is what https://c2sp.org/tlog-tiles describes, with checkpoints after https://c2sp.org/tlog-checkpoint signed by Ed25519, and leaves
// hashed after RFC 6962 section 2.1. There is one writer; what is appended is durable, and covered by a signed checkpoint, before
// [Log.Append] returns.
//
// A [Reader] believes no file: a [Tree] proves by it what is in the log at one checkpoint. [VerifyInclusion], [VerifyConsistency] and
// [VerifyInclusions] need no log; neither does a [TlogProof], which has all that is needed in one file.
package merkle
