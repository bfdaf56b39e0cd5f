// Package merkle is an append-only log that proves what is in it: [OpenDir]'s directory, [OpenStore]'s database, or a host's own [Log]; [Reader] and
// the functions that verify are all that an auditor needs. It knows bytes and no events.
//
// A log is what https://c2sp.org/tlog-tiles describes, with checkpoints after https://c2sp.org/tlog-checkpoint signed by Ed25519, and leaves
// hashed after RFC 6962 section 2.1. A directory has one writer, a [Store] any number. What is appended is durable, and covered by a signed
// checkpoint, before [Log.Append] returns. [Mirror] copies a log into a directory, and finds one that was set back; [Restore] makes a log of the copy.
//
// A [Reader] believes no file: a [Tree] proves by it what is in the log at one checkpoint. [VerifyInclusion], [VerifyConsistency] and
// [VerifyInclusions] need no log; neither does a [TlogProof], which has all that is needed in one file.
//
// # The directory
//
// What is appended at the same time is one record of a journal: a write into a file of zeros that is already there, and one fdatasync. A record holds
// the leaves and the signed checkpoint of the tree that they make, so that whoever can write the file cannot put in other leaves. Behind it, within
// about a second and by [Dir.Publish], the leaves are put into tiles, the checkpoint is written, then the mark of [WithMark], and the part of the journal
// that is not needed any more is used again. Who has the log open sees all that was appended; who reads the directory sees what was published. While 16
// MiB of the journal wait to be published, [Dir.Append] waits.
//
// Besides the resources of tlog-tiles, which a file server may publish, there are .lock, which is held by the one writer, and .journal, with segments that
// are numbered. A segment begins with a base, which says from which checkpoint on it has records, and ends with a record that says so once the next
// one is there.
//
// # Opening
//
// The checkpoint, the tiles at the log's right edge, the journal, the mark, and what the same process has seen before are checked against each other, in a
// time that the journal's length bounds. Then what the journal has and the tiles do not is published. A log is not opened, and is left as it is, when
//
//	its journal begins after its checkpoint, ends before it, or is not there     ErrRewound
//	a record that others follow, or a segment's beginning, is damaged            ErrRewound
//	its tiles are not those of its checkpoint                                    ErrRewound
//	its checkpoint is not there, but tiles or entries are                        ErrRewound
//	it has not come as far as its mark or as what was seen of it                 ErrRewound
//	its checkpoint, journal or mark is of another origin or key, or unreadable   ErrForeign
//	its journal's entries make another tree than the one that was signed         ErrForked
//	it does not go on from its mark or from what was seen of it                  ErrForked
//
// and one whose checkpoint somebody else has written while it was open is not written any more before it has been opened anew: [ErrForked]. The rest of the log is for [Verify].
//
// A record that is damaged and that no other follows is what a crash leaves of one that nobody was told of, and is dropped. So is the last record if
// somebody damages it while the log is closed after a crash, or all files if they are set back together. That shows by the mark, or to whoever
// has seen a later checkpoint: [VerifyConsistency].
//
// # Pruning
//
// A log can be made shorter from its beginning: [Dir.Prune] and [StoreLog.Prune] take away the full tiles and bundles that end at or before an index, as
// c2sp.org/tlog-tiles says. The first of each level stay for ever, so that the first 256 entries can be read and proven, and so does what the log's end is
// checked by. Entries from the index on, and trees of that size or larger, are read and proven as before; what lies before is [ErrPruned]. [Reader.First] finds
// where what is left begins, and [Verify] that it is all there. That shows what is missing, and not who has taken it: the entries of the log must say that.
//
// Whoever has last seen the log at a smaller size than the index, as a mirror, a mark or a node, cannot check any more whether it goes on from there. A mirror
// keeps what it has, and is where what was pruned can be kept.
//
// # Backup and restore
//
// [Mirror] copies a log of any kind while it is written, and again what is new: each time the copy is whole, checked, and durable before Mirror returns. An
// entry that was acknowledged since, or in a directory that is read from outside is not published yet, is not in it. [Restore] makes a log directory
// of a copy, also in place, and of a directory with an older log of which the copy is newer. [StoreLog.Restore] brings a log in a database that was set
// back up to a copy.
//
// A directory's files can be copied as well, one by one while it is written: the checkpoint first, and then all below tile; again, if one was listed that had
// vanished when it was read. That is a copy for Restore. The journal is no part of it: copied at another moment than the checkpoint it may begin after
// it or end before it, and then the log does not open. A snapshot of a whole file system at one moment has the journal too, and opens as after a crash.
//
// What the newest copy does not have is lost. The log would go on from there with other entries under the same indexes, and with a mark it does not open:
// [ErrRewound]. [WithLoss] accepts that, for a checkpoint that is named. Everybody who has seen one beyond the copy will find that the log has two histories,
// [ErrForked], and is to be told.
package merkle
