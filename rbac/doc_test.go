package rbac_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/bailiwick-go/bailiwick/rbac"
)

// The document in the package comment is one, once it has the role that it says it lacks.
func TestDocumentInTheCommentCompiles(t *testing.T) {
	src, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?s)//\t\{\n.*?//\t\}\n`).Find(src)
	text := strings.ReplaceAll(string(found), "//\t", "")
	if _, err := rbac.ParsePolicy([]byte(text)); err == nil || !strings.Contains(err.Error(), "payments/auditor") {
		t.Errorf("not only the auditor is missing: %v", err)
	}
	text = strings.Replace(text, `"roles": [`, `"roles": [{"name": "payments/auditor", "permissions": [{"actions": ["payment:read"], "resources": ["**"]}]},`, 1)
	p, err := rbac.ParsePolicy([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Roles) != 3 || len(p.Assignments) != 3 || len(p.Denies) != 2 || len(p.Resources) != 3 || len(p.Protections) != 1 || len(p.Constraints) != 2 || len(p.Ceilings) != 1 {
		t.Errorf("%+v", p)
	}
}
