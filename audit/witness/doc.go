// Package witness has checkpoints of a log cosigned by those who have seen it grow, and believes only such.
//
// A log can show two people two histories, each with a good signature. A witness remembers the largest checkpoint of a log that it has
// seen, and cosigns another only if it goes on from there: whoever demands the cosignatures of a quorum of witnesses sees one history as long as
// too few of them connive. The formats are those of C2SP: tlog-cosignature, tlog-witness, tlog-policy and tlog-proof, at https://c2sp.org.
//
// # Believing
//
// A [Policy] says whose signatures make a checkpoint acceptable: logs, witnesses, and a quorum of these.
//
//	log <verifier key> [<URL>]
//	witness <name> <verifier key> [<submission prefix>]
//	group <name> <number>|any|all <name>...
//	quorum <name>|none
//
// [Policy.Verify] checks a checkpoint, and [Policy.VerifyProof] a .tlog-proof with a leaf, offline. Keys are counted, not names: a policy in which one public
// key stands twice, whether as two witnesses, two logs or one of each, is an error, and so is one in which two keys have one name, for a
// witness with two keys is one witness. A policy that accepts what nobody signed is an error: without witnesses it names logs.
// The zero Policy accepts nothing.
//
// Signatures of keys that the policy does not know are ignored. One that names a known key and does not verify makes the whole checkpoint
// malformed, as signed-note says. Keys of logs are Ed25519 ones (type 0x01), those of witnesses Ed25519 or ML-DSA-44 ones (types 0x04 and 0x06), and
// every verifier key has one spelling. A checkpoint with extension lines is an error. ML-DSA-44 is what tlog-cosignature recommends for new witnesses, and is not
// in the standard library of Go 1.26: filippo.io/mldsa has it, and is required by this package alone.
//
// When a cosignature was made stands in it ([Cosignature]), and decides nothing here: a proof does not spoil.
//
// # Promises
//
// A receipt promises that an event is in the log by a deadline, and a credential can be believed for its sake before that. Whoever has believed one
// hands it back: [Policy.Reconcile] finds where the events are, and convicts a log that broke its word.
//
// # Publishing
//
// A [Publisher] brings the checkpoints of a log before the witnesses of a policy, and what has their quorum it publishes. The log itself waits for nobody:
// it grows, and is acknowledged, while no witness answers. But the files that a publisher shows stay at the last checkpoint that had a
// quorum, and it cries out: closed to readers, not to writers. Tiles and entries it shows as soon as the log has them. An idle log it has cosigned again
// every so often, so that it is not taken for one that is withheld. A witness that has seen more of the log than the log has, or another history, is the
// worst that can be heard, and is said at once: [merkle.ErrRewound] and [merkle.ErrForked]. It is what the witness says, without a proof.
//
// # Witnessing
//
// A [Server] is a witness for others' logs, as an [http.Handler]. What it has cosigned it commits to a store of its own before it answers, with an event
// of [CosignedKind], and two requests for one log are decided one after the other, on however many nodes: so two departments witness each other, and
// the log of each tells what it has seen of the other's. What a store cannot know, it cannot either: a witness whose database was set back while it was
// down, behind what [audit.Store.Recall] reads of its log, or with it, cosigns again what it had seen past.
package witness
