package bailiwick_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// TestREADMERunsAsItSays compiles and runs every Go block of the README and compares what it prints with the text block after it.
func TestREADMERunsAsItSays(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```.*?```text\n(.*?)```").FindAllSubmatch(readme, -1)
	if len(blocks) == 0 || len(regexp.MustCompile("(?m)^```go$").FindAll(readme, -1)) != len(blocks) {
		t.Fatalf("%d Go blocks with output", len(blocks))
	}
	for _, b := range blocks {
		file := filepath.Join(t.TempDir(), "main.go")
		if err := os.WriteFile(file, b[1], 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("go", "run", file)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil || string(out) != string(b[2]) {
			t.Errorf("%v, printed:\n%s", err, out)
		}
	}
}
