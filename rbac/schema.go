package rbac

import (
	"bytes"
	_ "embed"
)

//go:generate go test -run TestSchema -update .

//go:embed schema.json
var schema []byte

// Schema returns the JSON Schema (draft 2020-12) of the documents that [ParsePolicy] reads, for editors and checks before a policy is
// handed in. It refuses nothing that ParsePolicy accepts, and does not see all that ParsePolicy refuses, such as unknown roles.
func Schema() []byte { return bytes.Clone(schema) }
