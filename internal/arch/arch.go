// Package arch says which package may import which, and why not; its test keeps the module so. Each package of the module has a row in
// [Table], with exactly what it imports beyond the standard library. A change of direction is a change of a row here, with its reason.
package arch

// Module is the path of the module. Packages are named relative to it, and the one at its root ".".
const Module = "github.com/bailiwick-go/bailiwick"

// A Row is one package.
type Row struct {
	Package string
	Imports string // exactly; others' packages by their full path
	Tests   string // what its tests import beyond what lies below it, and the kits of that
	Why     string // the reason for what is not obvious
}

// Table has a row for every package.
var Table = []Row{
	{"internal/canon", "", "", "canonical forms depend on nothing, so that everything can depend on them"},
	{"internal/arch", "", "", ""},
	{"identity", "internal/canon github.com/google/uuid golang.org/x/text/secure/precis", "", "values and read interfaces only"},
	{"internal/durable", "", "", "the disk, for whoever keeps files"},
	{"internal/spill", "internal/durable", "", "what does not fit in memory, whatever it is"},
	{"audit/merkle", "internal/canon internal/durable golang.org/x/mod/sumdb/note golang.org/x/mod/sumdb/tlog", "", "a log of bytes: it knows no events"},
	{"audit", "audit/merkle identity internal/canon internal/durable internal/spill github.com/google/uuid golang.org/x/mod/sumdb/note", "", "every event names who"},
	{"audit/stream", "audit audit/merkle identity internal/durable", "", "events without state, by the trail's own door and out of it"},
	{"internal/sqlledger", "audit audit/merkle", "", "the driver is the host's"},
	{"audit/trail", "audit audit/merkle identity internal/canon", "", "its index is made of the log alone: it knows no ledger and no records"},
	{"audit/witness", "audit audit/merkle filippo.io/mldsa golang.org/x/mod/sumdb/note", "", "its server keeps what it has seen in a store; C2SP wants ML-DSA-44, which the standard library does not have yet"},
	{"audit/monitor", "audit audit/merkle audit/witness identity internal/canon", "credentials credentials/sshcert jit lifecycle rbac", "it follows others' logs with nothing but their files; its tests, the log of a whole system"},
	{"internal/faulty", "audit", "", "faults of any ledger, for tests of what stands on it"},
	{"internal/schema", "", "", "JSON Schemas of the documents that packages read, for their tests to make"},
	{"rbac", "identity internal/canon", "internal/schema", "deciding is pure: values in, values out"},
	{"rbac/incits359", "identity rbac", "", "the standard's words for what rbac decides, and nothing that only rbac could know"},
	{"lifecycle", "identity audit internal/canon", "internal/faulty", ""},
	{"jit", "identity rbac audit internal/canon github.com/google/uuid", "internal/faulty", ""},
	{"credentials", "identity audit internal/canon", "internal/faulty", "what a grant allows comes through credentials.Live"},
	{"credentials/sshcert", "credentials identity audit internal/canon golang.org/x/crypto/ssh", "", ""},
	{".", "identity lifecycle rbac jit credentials audit audit/merkle audit/stream internal/canon internal/sqlledger github.com/google/uuid", "internal/faulty internal/schema internal/systemtest", "it joins the others"},

	{"identity/identitytest", "identity pgregory.net/rapid", "", ""},
	{"audit/merkle/merkletest", "audit/merkle golang.org/x/mod/sumdb/tlog", "", "it computes roots for itself"},
	{"audit/audittest", "audit audit/merkle audit/merkle/merkletest identity pgregory.net/rapid", "", "a ledger can have the log too"},
	{"rbac/rbactest", "rbac identity pgregory.net/rapid", "", ""},
	{"lifecycle/lifecycletest", "lifecycle audit identity identity/identitytest pgregory.net/rapid", "", ""},
	{"jit/jittest", "jit lifecycle rbac audit identity pgregory.net/rapid", "", "standing changes in it as under the root, by way of lifecycle"},
	{"credentials/credentialstest", "credentials audit identity pgregory.net/rapid", "", ""},
	{"internal/systemtest", ". lifecycle rbac jit credentials credentials/sshcert audit audit/merkle audit/stream identity golang.org/x/crypto/ssh pgregory.net/rapid", "", "a whole system, with one real minter"},
}

// An Edge is an import, direct or not, that may not be, from each of several packages.
type Edge struct{ From, To, Why string }

// Forbidden has the edges that would be tempting.
var Forbidden = []Edge{
	{"jit", "credentials", "what is granted and how it is proven vary apart; the root joins them"},
	{"credentials", "jit", "a credential rests on bounds, not on how they came about; the root joins them"},
	{"credentials", "rbac", "the bounds have been decided already"},
	{"jit", "lifecycle", "standing comes through identity.Directory, which a host may bring; the root pushes changes"},
	{"lifecycle", "rbac", "it asks an identity.Authority, so that identities can be kept without a policy"},
	{"lifecycle", "jit", "effects are data; whoever applies them knows both"},
	{"identity rbac", "audit", "values and decisions cannot write"},
	{"audit", "rbac", "the log knows no policy"},
	{"identity lifecycle rbac jit credentials audit audit/trail audit/stream audit/merkle .", "audit/witness", "a log works without witnesses; whoever wants them asks for them"},
	{"identity lifecycle rbac jit credentials audit audit/trail audit/stream audit/merkle audit/witness .", "audit/monitor", "whoever is watched does not know of it"},
	{"audit/monitor", "lifecycle rbac jit credentials", "it stands outside: what it knows of them is in the log"},
	{"audit", "audit/trail", "what is recorded does not depend on what is asked"},
	{"identity lifecycle rbac jit credentials audit audit/trail", "net/http", "embedding the core brings no server and no client"},
	{"identity lifecycle rbac jit credentials audit audit/trail", "database/sql", "databases are behind audit.Ledger; internal/sqlledger is one"},
}
