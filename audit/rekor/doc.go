// Package rekor anchors the checkpoints of a log in a public one: Sigstore's Rekor, of its first version or its second. Whoever keeps a receipt can prove
// years later, offline, that the log stood where it stood, and its owner can no longer tell another story of what was before.
//
// An anchor says nothing about what happens after it, and nothing about whether the log is true. It says that this checkpoint existed then. How far back a log
// can be rewritten without anybody's noticing is therefore the time from one anchor to the next, and [Status] tells it.
//
// # What is sent
//
// A hashedrekord: the SHA-512 digest of the signed checkpoint, a signature over it, and the key of that. The checkpoint stays in the house, and with it the
// log's name, its size and its root: from what is published nobody learns more than that the holder of one key has anchored something. (A key that is
// known, and anchors that can be counted, do tell that; so take a key for this alone where that matters.) The signature is Ed25519ph, the only kind of
// Ed25519 that both versions take and that is the same each time, so that an entry that is sent twice is one entry.
//
// # What is believed
//
// Nothing that is not proven by keys that are pinned: see [ParseTrust]. [Trust.Verify] needs no network. Of the first version it checks the inclusion proof, the
// log's signature over its checkpoint and the signed entry timestamp (SET), which github.com/sigstore/rekor does, and also what that leaves to
// its caller: that the proof is for the size of the checkpoint, that the checkpoint is of the origin whose key it is, and nothing but it,
// that no index is negative, and that the body is ours: it is computed, not read. Of the second version, which has no timestamp and goes on without its
// witnesses when they are down, it checks the proof and counts the cosignatures by a [witness.Policy].
//
// A receipt has one spelling: one in which a single byte is another is not believed. What is not signed is not believed either, and not told: a log's checkpoint of the
// second version may have signatures of whom nobody knows, and of an ECDSA signature, as logs of the first version make them, anybody can make another.
//
// When an anchor was made is the word of the log, or of its witnesses. Without a witness a log of the second version tells no time at all.
//
// # Anchoring
//
// What takes anchors is [V1] or [V2] and not an interface for hosts: an anchor is worth what its receipt proves to others, and they have to know how to
// verify it.
//
// An [Anchorer] proposes the log's checkpoint so often, if there is something new. It commits what it is going to send before it sends it, and sends that until
// it is there: a crash, a lost answer or another node makes no second entry. The log that is anchored waits for none of it. Each receipt is committed with an
// event, so that the log tells that it was anchored, and a receipt that is withheld is missed. From one receipt to the next the log that holds them
// must go on ([merkle.ErrRewound], [merkle.ErrForked]), and a shard that was left, and comes back, from where it was left. So must the log that is anchored: one
// that was restored from a backup, and has lost what was anchored, cries out here.
//
// What cannot be helped: a log of the second version whose witnesses were down while it took an entry is cosigned again when it has the next one, from whomever; until
// then the anchor is pending. A log that has stopped for good leaves the anchor pending for good; a new log is a new anchorer, under a new name.
package rekor
