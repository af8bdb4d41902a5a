package portdiag

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"testing"
)

// The list is closed: what the package can name is in it, and nothing else.
func TestCausesAreComplete(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "portdiag.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var named []Cause
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Cause" {
			word, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			named = append(named, Cause(word))
		}
		return true
	})
	var told []Cause
	for _, a := range Causes {
		told = append(told, a.Cause)
		if a.Looks == "" || a.Why == "" || a.Helps == "" {
			t.Errorf("%s says too little: %+v", a.Cause, a)
		}
	}
	slices.Sort(named)
	slices.Sort(told)
	if !slices.Equal(named, told) || len(named) == 0 {
		t.Errorf("causes are %q, and %q are explained", named, told)
	}
}

func TestCausesPage(t *testing.T) {
	const page = "../../docs/causes.md"
	var want bytes.Buffer
	if err := WriteCauses(&want); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(page)
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("docs/causes.md is not what portdiag --causes prints (%v): go run ./cmd/portdiag --causes > docs/causes.md", err)
	}
}
