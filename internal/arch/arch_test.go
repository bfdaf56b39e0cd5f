package arch

import (
	"bytes"
	"cmp"
	"encoding/json"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

type pkg struct {
	ImportPath, Dir, Name                              string
	Imports, Deps, TestImports, XTestImports           []string
	GoFiles, IgnoredGoFiles, TestGoFiles, XTestGoFiles []string
}

func short(path string) string {
	return cmp.Or(strings.TrimPrefix(strings.TrimPrefix(path, Module), "/"), ".")
}

func foreign(path string) bool { return strings.Contains(strings.Split(path, "/")[0], ".") }

// load returns the module's packages.
func load(t *testing.T) map[string]pkg {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Name,Imports,Deps,TestImports,XTestImports,GoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles", "./...")
	cmd.Dir, cmd.Stderr = "../..", os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	pkgs := map[string]pkg{}
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		pkgs[short(p.ImportPath)] = p
	}
	return pkgs
}

// beyond returns the imports beyond the standard library.
func beyond(imports []string) (out []string) {
	for _, path := range imports {
		if foreign(path) {
			out = append(out, short(path))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func kit(name string) bool { return name != "." && strings.HasSuffix(name, "test") }

func TestDirection(t *testing.T) {
	pkgs, modules := load(t), map[string]bool{"pgregory.net/rapid": true}
	for _, r := range Table {
		p, ok := pkgs[r.Package]
		if !ok {
			t.Errorf("%s has a row and is not there", r.Package)
		}
		want := slices.Sorted(strings.FieldsSeq(r.Imports))
		if got := beyond(p.Imports); !slices.Equal(got, want) {
			t.Errorf("%s imports %v, its row says %v", r.Package, got, want)
		}
		if !kit(r.Package) && (slices.Contains(p.Imports, "testing") || slices.Contains(p.Imports, "pgregory.net/rapid")) {
			t.Errorf("%s imports testing or rapid, which only kits do", r.Package)
		}
		for _, path := range want {
			modules[path] = foreign(path)
		}
	}
	for _, e := range Forbidden {
		for from := range strings.FieldsSeq(e.From) {
			if deps := pkgs[from].Deps; slices.Contains(deps, e.To) || slices.Contains(deps, Module+"/"+e.To) {
				t.Errorf("%s imports %s: %s", from, e.To, e.Why)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(pkgs)) {
		i := slices.IndexFunc(Table, func(r Row) bool { return r.Package == name })
		if i < 0 {
			t.Errorf("%s has no row", name)
			continue
		}
		var odd []string
		below := append(beyond(pkgs[name].Deps), name)
		for _, path := range beyond(slices.Concat(pkgs[name].TestImports, pkgs[name].XTestImports)) {
			of := filepath.Dir(path) // of what path is the kit, if it is one
			if !slices.Contains(below, path) && !modules[path] && !(kit(path) && slices.Contains(below, of)) {
				odd = append(odd, path)
			}
		}
		if want := slices.Sorted(strings.FieldsSeq(Table[i].Tests)); !slices.Equal(odd, want) {
			t.Errorf("the tests of %s import %v beyond what lies below it, its row says %v", name, odd, want)
		}
	}
}

func TestDocumentation(t *testing.T) {
	for name, p := range load(t) {
		fset, files, internal := token.NewFileSet(), map[string]*ast.File{}, strings.HasPrefix(name, "internal/")
		for _, f := range slices.Concat(p.GoFiles, p.IgnoredGoFiles, p.TestGoFiles, p.XTestGoFiles) {
			src, err := os.ReadFile(filepath.Join(p.Dir, f))
			if n := bytes.Count(src, []byte("\n")); err != nil || n >= 600 {
				t.Errorf("%s/%s has %d lines: %v", name, f, n, err)
			}
			if files[f], err = parser.ParseFile(fset, f, src, parser.ParseComments); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range p.IgnoredGoFiles {
			delete(files, f)
		}
		d, err := doc.NewFromFiles(fset, slices.Collect(maps.Values(files)), p.ImportPath, doc.PreserveAST)
		if err != nil || d.Doc == "" {
			t.Errorf("%s has no package comment: %v", name, err)
		}
		if bare := undocumented(d); len(bare) > 0 && !internal {
			t.Errorf("%s has names without a comment: %v", name, bare)
		}
		for _, f := range slices.Concat(p.GoFiles, p.IgnoredGoFiles) {
			delete(files, f)
		}
		if p.Name != "main" && !internal && !kit(name) && len(doc.Examples(slices.Collect(maps.Values(files))...)) == 0 {
			t.Errorf("%s has no example", name)
		}
	}
}

// undocumented returns the exported names without a comment. One on a group is for all of it, one on a struct for its fields too.
func undocumented(d *doc.Package) (bare []string) {
	check := func(name string, comments ...string) {
		if strings.Join(comments, "") == "" {
			bare = append(bare, name)
		}
	}
	funcs, values := d.Funcs, slices.Concat(d.Consts, d.Vars)
	for _, ty := range d.Types {
		check(ty.Name, ty.Doc)
		funcs, values = slices.Concat(funcs, ty.Funcs, ty.Methods), slices.Concat(values, ty.Consts, ty.Vars)
		ast.Inspect(ty.Decl, func(n ast.Node) bool {
			if i, ok := n.(*ast.InterfaceType); ok {
				for _, m := range i.Methods.List {
					if len(m.Names) > 0 {
						check(ty.Name+" "+m.Names[0].Name, m.Doc.Text(), m.Comment.Text())
					}
				}
			}
			return true
		})
	}
	for _, f := range funcs {
		check(f.Recv+" "+f.Name, f.Doc)
	}
	for _, v := range values {
		for _, spec := range v.Decl.Specs {
			s := spec.(*ast.ValueSpec)
			check(s.Names[0].Name, v.Doc, s.Doc.Text(), s.Comment.Text())
		}
	}
	return bare
}

// TestHostOfPolicyAloneNeedsLittle: a module that imports only rbac requires this module, and nothing else but x/text and uuid by way of it.
func TestHostOfPolicyAloneNeedsLittle(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":  "module example.org/host\n\ngo 1.26.0\n\nrequire " + Module + " v0.0.0\n\nreplace " + Module + " => " + root + "\n",
		"main.go": "package main\n\nimport \"" + Module + "/rbac\"\n\nfunc main() { _, _ = rbac.Compile(rbac.Policy{}) }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out []byte
	for _, args := range [][]string{{"mod", "tidy"}, {"build", "-o", os.DevNull, "."}, {"mod", "edit", "-json"}} {
		cmd := exec.Command("go", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off")
		if out, err = cmd.Output(); err != nil {
			t.Fatalf("go %v: %v", args, err)
		}
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, r := range mod.Require {
		got[r.Path] = r.Indirect
	}
	if want := map[string]bool{Module: false, "github.com/google/uuid": true, "golang.org/x/text": true}; !maps.Equal(got, want) {
		t.Errorf("it requires %v", got)
	}
}
