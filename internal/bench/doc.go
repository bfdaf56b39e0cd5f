// Package bench measures the library on the databases that hosts have: SQLite in a file, by modernc.org/sqlite, and PostgreSQL, by pgx, each as it
// comes and with everything durable; and in memory, which is what is left when there is no database. It has nothing but benchmarks, named
// Benchmark<What>/<size>/<database>/<system>. The system "bailiwick" is the library, and "floor" is the least that anybody would have to do for the same.
//
//   - Transactions: the floor of a commit. The rows that one commit of ours writes (a record, its keys, an event, the change's ID), into the
//     same tables, by plain prepared statements and without looking at anything before. On SQLite that is one connection; the system
//     "floor-grouped" puts what waits into one transaction, as the library does.
//   - Commit: [audit.Store.Commit] of one record with its event and three reads.
//   - Access: a whole automatic access on a [bailiwick.System] whose log is a directory: request, activation, SSH certificate, use, which are five
//     commits. The floor is five bare transactions. The relay runs meanwhile; "behind" is how many events it had still to move at the end. Signing in is
//     not measured. Grants end by themselves after a few seconds, and who asks changes from one access to the next, so that nobody has more
//     of them at a time than one may have; that their end is recorded, by [bailiwick.System.Sweep], is not measured.
//   - Append: one entry to a log directory, durable and in the tree. The floor is a write and an fsync, for many callers one for all that wait. The peers
//     are Tessera on its POSIX storage, bbolt and SQLite, each by what it has for as many callers.
//   - Log: the same to the log in a database, and in a directory.
//   - Open: opening a log that was not closed; with how much memory it took while it grew.
//   - Move: the relay's part, from the ledger to the log, with the log in the ledger's database or in a directory. All events wait at the start.
//   - Authorize: an agent that acts for a human, by the human's one grant among a million, from memory only. The floor is Go maps.
//   - AuthorizeFresh: the same question without an agent, where each answer has to know what other nodes have taken away. The floor is a prepared statement
//     that reads one row.
//   - Prove: the inclusion proof of a random leaf among a million, by a [merkle.Tree] that has read its tiles. The peers are
//     github.com/transparency-dev/merkle ("merkle") and golang.org/x/mod/sumdb/tlog ("tlog"), each with all nodes in memory.
//   - Inspect: [audit.Store.VerifyState] of as many records as RECORDS says, with the whole log and with what the one before left.
//   - Verify: the same proofs verified, from the leaf's bytes on.
//   - Witness: a leaf more, and its checkpoint cosigned by witnesses over HTTP on this machine. The size is how many.
//   - TlogProof: a saved .tlog-proof verified with a policy that asks for all of so many witnesses. The floor is as many Ed25519 signatures, the log's
//     with them.
//   - Receipt: a saved receipt of an anchor in Rekor verified, by version. The floor is the signatures in it. These two are in package audit/rekor.
//   - Anchor: a checkpoint anchored in a Rekor of this machine, as .ci/run installs it, proven and committed.
//   - Decide, Heap and Assign: decisions by policy, which have a module of their own in the folder policy, with their own names and sizes.
//
// The size is the number of callers at the same time, or of grants or leaves. Each of many callers waits for its own answer before it asks again: p50-ms and
// p99-ms are how long that took. cpu-µs/op is the processor time for each, of this process and of the PostgreSQL server, the relay's with it; other
// work on the machine disturbs it least.
//
// # Running
//
// The script run runs everything, or what it is told to, and prints what benchstat reads:
//
//	./run                                   # all of it, about half an hour
//	./run 'Access/64'                       # some of it
//	TIME=1x GRANTS=1000 ./run               # whether it works at all
//	COUNT=10 TIME=10s ./run >new.txt        # numbers to keep, on a machine that does nothing else
//	TMPDIR=/mnt/disk ./run                  # on another disk; one in memory would make the numbers of durable writes worthless
//
// The script profile runs one benchmark and prints where the processor's time and the memory went; the profiles stay in the directory that it
// names, for "go tool pprof":
//
//	./profile 'Access/64/sqlite/bailiwick$'
//
// This module and the one in policy are outside of the workspace: the scripts set GOWORK=off, and so must whoever calls go here.
package bench
