// Package merkle is an append-only log that proves what is in it: [OpenDir]'s directory, [OpenStore]'s database, or a host's own [Log]; [Reader] and
// the functions that verify are all that an auditor needs. It knows bytes and no events.
//
// A log is what https://c2sp.org/tlog-tiles describes, with checkpoints after https://c2sp.org/tlog-checkpoint signed by Ed25519, and leaves
// hashed after RFC 6962 section 2.1. A directory has one writer, a [Store] any number. What is appended is durable, and covered by a signed
// checkpoint, before [Log.Append] returns. [Mirror] copies a log into a directory, and finds one that was set back.
package merkle
