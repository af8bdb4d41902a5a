package killport_test

import (
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

const module = "github.com/killport/killport/"

// A source is one Go file of the module, whatever system it is for.
type source struct {
	path string // from the root, with slashes
	text string
	file *ast.File
	fset *token.FileSet
}

func (s source) dir() string  { return path.Dir(s.path) }
func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// imports returns what the file imports.
func (s source) imports() []string {
	var paths []string
	for _, spec := range s.file.Imports {
		name, _ := strconv.Unquote(spec.Path.Value)
		paths = append(paths, name)
	}
	return paths
}

func (s source) at(n ast.Node) string { return s.fset.Position(n.Pos()).String() }

// sources parses the module. The tools are a module of their own.
func sources(t *testing.T) []source {
	t.Helper()
	all, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("found %d Go files only", len(all))
	}
	return all
}

var parsed = sync.OnceValues(func() (all []source, err error) {
	err = eachFile(func(name string) error {
		if !strings.HasSuffix(name, ".go") || strings.HasPrefix(name, "tools/") || strings.Contains(name, "testdata/") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		s, err := parse(name, string(text))
		all = append(all, s)
		return err
	})
	return all, err
})

func parse(name, text string) (source, error) {
	s := source{path: name, text: text, fset: token.NewFileSet()}
	var err error
	s.file, err = parser.ParseFile(s.fset, name, text, parser.ParseComments)
	return s, err
}

// eachFile visits the files of the repository, but not what is built.
func eachFile(visit func(name string) error) error {
	return filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		name = filepath.ToSlash(name)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name == ".git" || name == "bin"):
			return fs.SkipDir
		case d.Type().IsRegular():
			return visit(name)
		}
		return nil
	})
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What each package may import of the module. Those of internal/ that are not
// listed are parsers: bytes to values, which know nothing but one another.
var (
	pipe   = []string{"pkg/jsonl"}
	eyes   = []string{"pkg/jsonl", "pkg/process", "parsers"}
	lever  = []string{"pkg/process", "pkg/listeners", "internal/command", "parsers"}
	check  = []string{"pkg/jsonl", "pkg/process", "pkg/listeners", "pkg/manager"}
	kill   = append(slices.Clip(check), "pkg/pidcheck", "internal/shell")
	diag   = append(slices.Clip(kill), "internal/command", "parsers")
	judge  = append(slices.Clip(kill), "pkg/pkill2", "pkg/portdiag")
	stages = append(slices.Clip(judge), "pkg/classify")
	layers = map[string][]string{
		"pkg/jsonl":             nil,
		"pkg/jsonl/jsonltest":   pipe,
		"pkg/process":           {"parsers"},
		"pkg/listeners":         eyes,
		"pkg/manager":           lever,
		"pkg/pidcheck":          check,
		"pkg/pkill2":            kill,
		"pkg/portdiag":          diag,
		"pkg/classify":          judge,
		"internal/text":         stages,
		"internal/cli":          append(slices.Clip(stages), "internal/text"),
		"cmd/*":                 append(slices.Clip(stages), "internal/text", "internal/cli"),
		"schema":                nil,
		"internal/schematest":   {"schema"},
		"internal/command":      nil,
		"internal/remedytest":   {"internal/shell"},
		"internal/rig":          nil,
		"internal/shell":        nil,
		"internal/suite":        nil,
		"internal/zoo":          nil,
		"internal/wine/prngdll": nil,
		"scripts":               nil,
		".":                     nil,
	}
)

// layer is the name under which a package stands in layers.
func layer(dir string) string {
	if _, ok := layers[dir]; ok {
		return dir
	}
	switch path.Dir(dir) {
	case "cmd":
		return "cmd/*"
	case "internal":
		return "parsers"
	}
	return dir
}

func TestImportsGoOneWay(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		may, known := layers[layer(s.dir())]
		if !known && layer(s.dir()) != "parsers" {
			t.Errorf("%s: nothing says what this package may import; say it in layers", s.path)
		}
		if layer(s.dir()) == "parsers" {
			may = []string{"parsers"}
		}
		for _, imported := range s.imports() {
			if of, ok := strings.CutPrefix(imported, module); ok && !slices.Contains(may, layer(of)) {
				t.Errorf("%s imports %s; it may import %q", s.path, of, may)
			}
		}
	}
}

// Who alone may import what, tests included.
var confined = []struct {
	imported *regexp.Regexp
	by       *regexp.Regexp // of file names
}{
	{regexp.MustCompile(`^github\.com/alecthomas/kong`), regexp.MustCompile(`^internal/cli/`)},
	{regexp.MustCompile(`^golang\.org/x/term`), regexp.MustCompile(`^internal/cli/`)},
	{regexp.MustCompile(`^github\.com/tidwall/`), regexp.MustCompile(`^(pkg/jsonl/|internal/netfilter/|internal/(suite|rig)/)`)},
	{regexp.MustCompile(`^golang\.org/x/sys/`), regexp.MustCompile(`_(linux|windows|darwin)(_test)?\.go$|^internal/suite/\w+_test\.go$`)},
	{regexp.MustCompile(`^github\.com/santhosh-tekuri/`), regexp.MustCompile(`^internal/schematest/`)},
	{regexp.MustCompile(`^github\.com/(google/go-cmp|rogpeppe/go-internal)`), regexp.MustCompile(`_test\.go$`)},
	{regexp.MustCompile(`^` + module + `(internal/(schematest|remedytest)|pkg/jsonl/jsonltest)$`), regexp.MustCompile(`_test\.go$`)},
	{regexp.MustCompile(`^` + module + `(cmd/|internal/(zoo|suite|rig))`), regexp.MustCompile(`^$`)},
	{regexp.MustCompile(`^os/exec$`), regexp.MustCompile(`^internal/(command|suite|zoo)/|^pkg/(process/terminate|portdiag/causes)_windows\.go$|_test\.go$`)},
}

func TestImportsAreConfined(t *testing.T) {
	for _, s := range sources(t) {
		for _, imported := range s.imports() {
			for _, c := range confined {
				if c.imported.MatchString(imported) && !c.by.MatchString(s.path) {
					t.Errorf("%s imports %s; only %v may", s.path, imported, c.by)
				}
			}
		}
	}
}

func TestOnePackageComment(t *testing.T) {
	comments := map[string][]string{}
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		comments[s.dir()] = append(comments[s.dir()], packageComment(s)...)
	}
	for dir, files := range comments {
		if len(files) != 1 {
			t.Errorf("%s: package comments in %q; want one", dir, files)
		}
	}
}

func packageComment(s source) []string {
	if s.file.Doc == nil || constraint.IsGoBuild(s.file.Doc.List[0].Text) {
		return nil
	}
	return []string{s.path}
}

// wellKnown are methods that say by their name what they do.
var wellKnown = []string{"Error", "Unwrap", "String"}

func TestExportedHaveComments(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() || !strings.HasPrefix(s.path, "pkg/") {
			continue
		}
		for _, decl := range s.file.Decls {
			for _, name := range uncommented(decl) {
				t.Errorf("%s: %s has no comment", s.at(name), name.Name)
			}
		}
	}
}

// uncommented returns the exported names of a declaration that no comment
// explains: neither their own nor that of their group.
func uncommented(decl ast.Decl) []*ast.Ident {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && !slices.Contains(wellKnown, d.Name.Name) {
			return []*ast.Ident{d.Name}
		}
	case *ast.GenDecl:
		if d.Doc != nil {
			return nil
		}
		var names []*ast.Ident
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Doc == nil && spec.Comment == nil {
					names = append(names, spec.Name)
				}
			case *ast.ValueSpec:
				if spec.Doc == nil && spec.Comment == nil {
					names = append(names, spec.Names...)
				}
			}
		}
		return slices.DeleteFunc(names, func(name *ast.Ident) bool { return !name.IsExported() })
	}
	return nil
}

// A command is an adapter: one short file.
func TestCommandsAreShort(t *testing.T) {
	const most = 70 // lines
	files := map[string][]string{}
	for _, s := range sources(t) {
		if s.isTest() || !strings.HasPrefix(s.path, "cmd/") {
			continue
		}
		files[s.dir()] = append(files[s.dir()], path.Base(s.path))
		if n := strings.Count(s.text, "\n"); n > most {
			t.Errorf("%s has %d lines; want %d at most", s.path, n, most)
		}
	}
	want := []string{"cmd/classify", "cmd/killport", "cmd/listeners", "cmd/pidcheck", "cmd/pkill2", "cmd/portdiag"}
	if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, want) {
		t.Errorf("commands = %q; want %q", got, want)
	}
	for dir, names := range files {
		if !slices.Equal(names, []string{"main.go"}) {
			t.Errorf("%s has %q; want main.go alone", dir, names)
		}
	}
}

// Antivirus products flag it. What looks for the word, or says that there is
// none, may have it.
func TestNoPowerShell(t *testing.T) {
	const largest = 1 << 20 // of a file that people write
	err := eachFile(func(name string) error {
		info, err := os.Stat(name)
		if err != nil || info.Size() > largest || strings.HasSuffix(name, "_test.go") {
			return err
		}
		text := strings.ToLower(read(t, name))
		if path.Ext(name) == ".md" {
			text = strings.ReplaceAll(text, "no powershell", "")
		}
		if strings.Contains(text, "powershell") && utf8.ValidString(text) {
			t.Errorf("%s speaks of PowerShell", name)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
