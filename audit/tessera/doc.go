// Package tessera is a [merkle.Log] that Tessera (github.com/transparency-dev/tessera) keeps: on a POSIX file system with [OpenDir], and with [Open] wherever
// else Tessera has a driver for, such as the object stores of AWS and GCP, for a log that is larger than one machine, or that many read. It is as
// any other log: a relay moves events to it, and [merkle.Reader], [merkle.Verify] and [merkle.Mirror] read it. On one machine [merkle.OpenDir] is faster and
// needs nothing else.
//
// The package imports no cloud's SDK. A host makes the driver, with Tessera's package for its cloud, and hands it over in a [Storage], with [merkle.Files] that
// read the objects that the driver writes, and a [Mark]:
//
//	driver, err := gcp.New(ctx, gcp.Config{Bucket: bucket, Spanner: database})
//	...
//	log, err := tessera.Open(ctx, tessera.Storage{Name: bucket, Driver: driver, Files: files}, origin, key, tessera.WithMark(mark))
//
// Tessera's antispam is off: the same leaf twice is two entries.
//
// # Appending
//
// Calls of Append at the same time are one group, of up to 1 MiB unless one call has more. A group is appended in four steps:
//
//	1  the tree with the leaves in it is computed here, and signed into the mark together with the leaves
//	2  Tessera is given the leaves, in their order, and all of its answers are waited for
//	3  Tessera publishes a checkpoint, for which it needs a signature
//	4  the checkpoint is read, and compared with the tree of step 1
//
// The signature is given to the tree before and to the tree of step 1, and to nothing else. So a checkpoint never has a part of a group, nor anything that
// was not given to Append; a lost, doubled or moved entry, or one of another writer, ends in an error and not in a checkpoint. Append returns after step 4: what
// it acknowledges has been published to everybody, and Tessera has made it durable before.
//
// An error before step 2 means that nothing was appended, unless it is that of a mark of which nobody knows whether it was written. After any other error the log
// refuses to append more until it is opened again. Then what the mark says is finished: all of the group is in the log, or, if the mark had not been
// written, nothing. It is the same after a crash. The leaves of a group have indexes that follow on each other, and so have those of each call.
//
// Tessera publishes at most one checkpoint in an interval, see [WithInterval]: the first Append after a pause does not wait for that, one after another does.
//
// # The mark
//
// A mark is one value, which the log swaps for another before each group. It is a line of random letters and a line end; a note (c2sp.org/signed-note)
// with the three lines of a checkpoint, under the origin with "#mark" behind it, so that it is none; and the last leaves of the tree of that checkpoint, each
// behind its length, as in an entry bundle. A log's checkpoint is the mark's, or the one before the mark's leaves. So a mark tells how far the log has
// come, and nobody without the key can write one, or put leaves behind a checkpoint in a way that the log would take over.
//
// # Opening
//
// The checkpoint, the mark, the tiles on the right edge, the last entry bundle, the size that Tessera has for its tree and what is given by [WithSeen] are
// compared. In a directory that happens before Tessera has it, and with Tessera's state besides; with other drivers the size comes from the
// appender, which signs nothing until the comparison is done, and tiles without a checkpoint are found by the first entry or the first full bundle. A log is not opened, and is left as it is, when
//
//	its checkpoint is not there, but tiles, a state or a mark with entries are      ErrRewound
//	its checkpoint is there, and its state or its mark is not                       ErrRewound
//	its state is damaged or has fewer entries than its checkpoint or its mark       ErrRewound
//	its state has another root than its tiles                                       ErrRewound
//	its tiles or its last entries are not those of its checkpoint                   ErrRewound
//	its checkpoint is older than its mark, by more than the mark's leaves           ErrRewound
//	its mark is older than its checkpoint                                           ErrRewound
//	it has not come as far as what was seen of it                                   ErrRewound
//	its checkpoint or its mark is of another origin or key, or unreadable           ErrForeign
//	its checkpoint and its mark are not of one history                              ErrForked
//	it has entries after its checkpoint that are not those of its mark              ErrForked
//	it does not go on from what was seen of it                                      ErrForked
//
// The errors are those of package merkle. Tessera by itself begins a new log, over the old one, when its state is gone, goes on from whatever size its
// state says, and signs that. A log whose files were all set back together, with the mark, looks like an earlier one: only a mark elsewhere, or [WithSeen]
// with the last checkpoint that a witness or an anchor has, can tell. The rest of the log is for [merkle.Verify].
//
// A mark that is lost is begun anew with [WithNewMark], and so a log is taken over that Tessera has kept without this package.
//
// # One writer
//
// One process writes the log. In a process a [Storage] is open once by its name, and a directory once, whatever its path: two appenders of one process on
// one directory lose entries without an error. A directory is also locked against other processes, by the lock that [merkle.OpenDir] takes, too. With other
// drivers the host sees to it that one process writes, such as by a lease. Whoever opens the log swaps the mark, so that a writer that comes back
// cannot begin to append any more: [merkle.ErrLocked].
//
// # What does not hold
//
// A writer that is in the middle of a group when another opens the log is not stopped: Tessera may then have entries of both, mixed. Neither gets a checkpoint
// for that, no acknowledged entry is lost, and the log is [merkle.ErrForked] from then on: Tessera cannot take entries back. It has to be continued
// as another log. The same becomes of a log into which somebody else writes with Tessera.
//
// Tessera ends a batch a tenth of the interval after its first entry. If giving it the entries of one, which are up to 1,024, takes longer than that, they
// are two; if then the first fails and the second does not, the entries are in its tree in another order, and the log is ErrForked in the same way.
//
// Tessera panics, in a goroutine of its own, when it cannot open or lock a file in .state, which ends the process. What would make it do so is looked for when a
// directory is opened and before each group, and is then an error; what happens in between, such as that the process runs out of open files, is not found.
// What was acknowledged is not harmed.
//
// Tessera's answers, and those of a mark that ignores its context, are waited for outside of any context. After 30 seconds without one Append is an error;
// [Log.Close] is another if there is none by then either, and leaves the log locked until the process ends, because nobody knows what is still
// written. Tessera measures its interval by the file system's clock in a directory: if that is set back, no checkpoint is published, and
// Append is an error, until it has caught up.
//
// Tessera does not say when it has stopped: for a moment after Close it may still lock a file in .state, and writes nothing.
//
// A crash leaves files behind that have a number at the end of their name. They are harmless. Tessera takes away partial tiles and bundles some time after
// they are full, as the checkpoint's readers expect. It logs with klog to the standard error, and its metrics and spans go to OpenTelemetry's global providers.
//
// # Stability
//
// What is stored, the directory, and the mark stay readable. The directory of [OpenDir] can be read by Tessera v1.0.4 and what is compatible to it.
package tessera
