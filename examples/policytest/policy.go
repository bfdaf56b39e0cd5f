package policytest

import (
	_ "embed"

	"github.com/bailiwick-go/bailiwick/rbac"
)

//go:embed policy.json
var document []byte

// Policy returns the company's policy.
func Policy() (rbac.Policy, error) { return rbac.ParsePolicy(document) }
