package schema_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/killport/killport/internal/schematest"
	"github.com/killport/killport/pkg/classify"
	"github.com/killport/killport/pkg/listeners"
	"github.com/killport/killport/pkg/pidcheck"
	"github.com/killport/killport/pkg/pkill2"
	"github.com/killport/killport/pkg/portdiag"
	"github.com/killport/killport/schema"
)

// records are the Go types of what each tool puts out.
var records = map[string]any{
	"listeners": listeners.Listener{},
	"pidcheck": struct {
		listeners.Listener
		Check pidcheck.Result `json:"pidcheck"`
	}{},
	"pkill2": struct {
		listeners.Listener
		Check *pidcheck.Result `json:"pidcheck,omitempty"`
		Done  pkill2.Result    `json:"pkill2"`
	}{},
	"classify": classify.Result{},
	"portdiag": portdiag.Report{},
}

// open are the records that go through pipes, where users add members.
var open = []string{"listeners", "pidcheck", "pkill2"}

// A node is a piece of a schema, and the file that it stands in.
type node struct {
	file string
	body map[string]any
}

func load(t *testing.T, file string) node {
	t.Helper()
	b, err := schema.Files.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n := node{file: file}
	if err := json.Unmarshal(b, &n.body); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return n
}

// at follows a reference: "file#/a/b", "#/a/b" or "file".
func (n node) at(t *testing.T, ref string) node {
	t.Helper()
	file, path, _ := strings.Cut(ref, "#")
	if file == "" {
		file = n.file
	}
	to := load(t, file)
	for step := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if step == "" {
			continue
		}
		body, ok := to.body[step].(map[string]any)
		if !ok {
			t.Fatalf("%s: %q leads nowhere", n.file, ref)
		}
		to.body = body
	}
	return to
}

// base is what n refers to.
func (n node) base(t *testing.T) (node, bool) {
	t.Helper()
	ref, ok := n.body["$ref"].(string)
	if !ok {
		return node{}, false
	}
	return n.at(t, ref), true
}

// get looks a keyword up, along the references.
func (n node) get(t *testing.T, keyword string) any {
	t.Helper()
	if v, ok := n.body[keyword]; ok {
		return v
	}
	if base, ok := n.base(t); ok {
		return base.get(t, keyword)
	}
	return nil
}

// properties collects those of n, along the references.
func (n node) properties(t *testing.T) map[string]node {
	t.Helper()
	all := map[string]node{}
	if base, ok := n.base(t); ok {
		all = base.properties(t)
	}
	own, _ := n.body["properties"].(map[string]any)
	for name, body := range own {
		all[name] = node{n.file, body.(map[string]any)}
	}
	return all
}

func (n node) required(t *testing.T) []string {
	t.Helper()
	var all []string
	if base, ok := n.base(t); ok {
		all = base.required(t)
	}
	own, _ := n.body["required"].([]any)
	for _, name := range own {
		all = append(all, name.(string))
	}
	slices.Sort(all)
	return all
}

// A member is a field of a struct as encoding/json sees it.
type member struct {
	of       reflect.Type
	required bool
}

func members(of reflect.Type) map[string]member {
	all := map[string]member{}
	for f := range of.Fields() {
		if !f.IsExported() {
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			maps.Copy(all, members(f.Type))
			continue
		}
		if !f.IsExported() {
			continue
		}
		all[name] = member{f.Type, !strings.Contains(options, "omit")}
	}
	return all
}

func TestSchemasCompile(t *testing.T) {
	names, err := fs.Glob(schema.Files, "*")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for kind := range records {
		want = append(want, kind+".schema.json")
		if err := schematest.Check(kind, []byte(`{}`)); err == nil || strings.Contains(err.Error(), "compile") {
			t.Errorf("Check(%q, {}) = %v; want that members are missing", kind, err)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("schemas (-want +got):\n%s", diff)
	}
	for _, name := range names {
		if id := load(t, name).body["$id"]; id != name {
			t.Errorf("%s: $id = %v; want %q", name, id, name)
		}
	}
}

// The members of each struct and those of its schema are the same, and so are
// those that are always there.
func TestSchemasAreTheStructs(t *testing.T) {
	for kind, record := range records {
		n := load(t, kind+".schema.json")
		if slices.Contains(open, kind) {
			for _, keyword := range []string{"additionalProperties", "unevaluatedProperties"} {
				if v := n.get(t, keyword); v != nil {
					t.Errorf("%s: %s = %v; want it open for the user's own members", kind, keyword, v)
				}
			}
			compareMembers(t, kind, n, reflect.TypeOf(record))
			continue
		}
		compare(t, kind, n, reflect.TypeOf(record))
	}
}

func compare(t *testing.T, path string, n node, of reflect.Type) {
	t.Helper()
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	if of == reflect.TypeFor[time.Time]() {
		if n.get(t, "type") != "string" || n.get(t, "format") != "date-time" {
			t.Errorf("%s is %v; want a date-time", path, n.body)
		}
		return
	}
	switch of.Kind() {
	case reflect.Struct:
		if n.get(t, "additionalProperties") != false && n.get(t, "unevaluatedProperties") != false {
			t.Errorf("%s is open for members that it does not have", path)
		}
		compareMembers(t, path, n, of)
	case reflect.Slice:
		items, ok := n.get(t, "items").(map[string]any)
		if n.get(t, "type") != "array" || !ok {
			t.Errorf("%s is %v; want an array", path, n.body)
			return
		}
		compare(t, path+"[]", node{n.file, items}, of.Elem())
	default:
		compareKind(t, path, n, of.Kind())
	}
}

func compareMembers(t *testing.T, path string, n node, of reflect.Type) {
	t.Helper()
	properties, fields := n.properties(t), members(of)
	got, want := slices.Sorted(maps.Keys(properties)), slices.Sorted(maps.Keys(fields))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: members (-struct +schema):\n%s", path, diff)
	}
	var required []string
	for _, name := range want {
		if fields[name].required {
			required = append(required, name)
		}
		if p, ok := properties[name]; ok {
			compare(t, path+"."+name, p, fields[name].of)
		}
	}
	if diff := cmp.Diff(required, n.required(t)); diff != "" {
		t.Errorf("%s: members that are always there (-struct +schema):\n%s", path, diff)
	}
}

func compareKind(t *testing.T, path string, n node, kind reflect.Kind) {
	t.Helper()
	want := map[reflect.Kind]string{
		reflect.String: "string", reflect.Bool: "boolean", reflect.Map: "object",
		reflect.Int: "integer", reflect.Int64: "integer", reflect.Uint16: "integer", reflect.Uint32: "integer", reflect.Uint64: "integer",
	}[kind]
	got := n.get(t, "type")
	if got == nil && len(words(t, n)) > 0 {
		got = "string"
	}
	if got != want {
		t.Errorf("%s: type = %v; want %q", path, got, want)
	}
}

// words returns the closed list of n, along references and alternatives.
func words(t *testing.T, n node) []string {
	t.Helper()
	var all []string
	list, _ := n.body["enum"].([]any)
	for _, w := range list {
		all = append(all, w.(string))
	}
	if base, ok := n.base(t); ok {
		all = append(all, words(t, base)...)
	}
	either, _ := n.body["anyOf"].([]any)
	for _, one := range either {
		all = append(all, words(t, node{n.file, one.(map[string]any)})...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// enums says where the words of each type stand.
var enums = map[string]string{
	"listeners.Proto":    "listeners.schema.json#/$defs/proto",
	"listeners.Owner":    "listeners.schema.json#/$defs/owner",
	"listeners.State":    "listeners.schema.json#/$defs/state",
	"listeners.HiddenBy": "listeners.schema.json#/$defs/hidden_by",
	"process.Protection": "pidcheck.schema.json#/$defs/protection",
	"pidcheck.State":     "pidcheck.schema.json#/$defs/state",
	"manager.Kind":       "pidcheck.schema.json#/$defs/manager_kind",
	"manager.engineName": "pidcheck.schema.json#/$defs/engine_command",
	"manager.Control":    "", // what Decide goes by, in no record
	"pidcheck.Way":       "", // likewise
	"pkill2.Outcome":     "pkill2.schema.json#/$defs/outcome",
	"pkill2.Via":         "", // an option, in no record
	"classify.Status":    "classify.schema.json#/$defs/status",
	"portdiag.Verdict":   "portdiag.schema.json#/$defs/verdict",
	"portdiag.Cause":     "portdiag.schema.json#/$defs/cause",
	"portdiag.Severity":  "portdiag.schema.json#/$defs/severity",
	"portdiag.LinkKind":  "portdiag.schema.json#/$defs/link_kind",
}

// The words that the source declares, and those of the schemas, are the same.
func TestSchemasKnowTheWords(t *testing.T) {
	declared := map[string][]string{}
	eachFile(t, func(pkg string, file *ast.File) {
		for _, decl := range file.Decls {
			if gen, ok := decl.(*ast.GenDecl); ok && gen.Tok == token.CONST {
				for of, words := range typedWords(gen) {
					declared[pkg+"."+of] = append(declared[pkg+"."+of], words...)
				}
			}
		}
	})
	got, want := slices.Sorted(maps.Keys(declared)), slices.Sorted(maps.Keys(enums))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("types with words (-in this test +in the source):\n%s", diff)
	}
	for of, ref := range enums {
		if ref == "" {
			continue
		}
		slices.Sort(declared[of])
		if diff := cmp.Diff(declared[of], words(t, node{}.at(t, ref))); diff != "" {
			t.Errorf("%s (-source +schema):\n%s", of, diff)
		}
	}
}

// typedWords returns the string constants of a declaration, by the name of
// their type.
func typedWords(gen *ast.GenDecl) map[string][]string {
	all := map[string][]string{}
	for _, spec := range gen.Specs {
		value := spec.(*ast.ValueSpec)
		of, ok := value.Type.(*ast.Ident)
		if !ok {
			continue
		}
		for _, v := range value.Values {
			if word, ok := literal(v); ok {
				all[of.Name] = append(all[of.Name], word)
			}
		}
	}
	return all
}

// Reasons have no type of their own. They stand where an outcome is settled.
func TestSchemasKnowTheReasons(t *testing.T) {
	settled, obstacles, judged := map[string]bool{}, map[string]bool{}, map[string]bool{}
	constants := map[string]map[string]ast.Expr{} // by package: a reason may have a name
	eachFile(t, func(pkg string, file *ast.File) {
		if constants[pkg] == nil {
			constants[pkg] = map[string]ast.Expr{}
		}
		for _, decl := range file.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.CONST {
				continue
			}
			for _, spec := range gen.Specs {
				if spec := spec.(*ast.ValueSpec); len(spec.Values) == 1 {
					constants[pkg][spec.Names[0].Name] = spec.Values[0]
				}
			}
		}
	})
	eachFile(t, func(pkg string, file *ast.File) {
		note := func(words map[string]bool, e ast.Expr) {
			if id, ok := e.(*ast.Ident); ok && constants[pkg][id.Name] != nil {
				e = constants[pkg][id.Name]
			}
			if word, ok := literal(e); ok && word != "" {
				words[word] = true
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				to, ok := n.Fun.(*ast.SelectorExpr)
				if ok && pkg == "pkill2" && len(n.Args) > 1 && (to.Sel.Name == "settle" || to.Sel.Name == "fail") {
					note(settled, n.Args[1])
				}
			case *ast.CompositeLit:
				if of, ok := n.Type.(*ast.Ident); ok && of.Name == "Obstacle" && len(n.Elts) > 0 {
					note(obstacles, n.Elts[0])
				}
			case *ast.AssignStmt:
				to, ok := n.Lhs[0].(*ast.SelectorExpr)
				if ok && pkg == "classify" && to.Sel.Name == "Reason" {
					note(judged, n.Rhs[0])
				}
			}
			return true
		})
	})
	for _, tt := range []struct {
		of   string
		got  map[string]bool
		want []string
	}{
		{"settle", settled, words(t, node{}.at(t, "pkill2.schema.json#/$defs/reason"))},
		{"Obstacle", obstacles, words(t, node{}.at(t, "pkill2.schema.json#/$defs/obstacle"))},
		{"Reason", judged, words(t, node{}.at(t, "classify.schema.json#/$defs/reason"))},
	} {
		if len(tt.got) < 2 {
			t.Errorf("%s: found the words %v only", tt.of, tt.got)
		}
		for word := range tt.got {
			if !slices.Contains(tt.want, word) {
				t.Errorf("%s: %q is not in the schema, which has %q", tt.of, word, tt.want)
			}
		}
	}
}

func literal(e ast.Expr) (string, bool) {
	if field, ok := e.(*ast.KeyValueExpr); ok {
		e = field.Value
	}
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	word, err := strconv.Unquote(lit.Value)
	return word, err == nil
}

// eachFile parses the files of the packages in pkg/, whatever system they are
// for.
func eachFile(t *testing.T, visit func(pkg string, file *ast.File)) {
	t.Helper()
	paths, err := filepath.Glob("../pkg/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		visit(filepath.Base(filepath.Dir(path)), file)
	}
}

// For each cause there is a schema of its evidence.
func TestSchemasKnowTheEvidence(t *testing.T) {
	for _, about := range portdiag.Causes {
		const report = `{"port":8000,"verdict":"free","bindable":true,"listeners":[],"findings":[{"cause":%q,"severity":"info","summary":"s","evidence":{"mine":7}}]}`
		if schematest.Check("portdiag", fmt.Appendf(nil, report, about.Cause)) == nil {
			t.Errorf("%s: any evidence will do", about.Cause)
		}
	}
}

// Each valid record, and what makes it invalid.
func TestSchemasRefuse(t *testing.T) {
	const (
		socket   = `"socket":{"inode":529089,"cookie":"0x1451"}`
		listener = `"proto":"TCP","local_addr":"127.0.0.1","local_port":8000,` + socket
		held     = listener + `,"pid":4242,"birth":"b:1:2","uid":1000,"user":"ann"`
		alive    = `"pidcheck":{"exists":true,"state":"alive","name":"node","started":"2026-11-22T17:30:00Z"}`
		freed    = `"port":8000,"status":"cleaned","killed":[4242],"failed":[],"ghost":[],"still_listening":false,"remaining_pids":[]`
		managed  = `"managed_by":{"kind":"container","name":"web","engine":"docker","restart":"always","stop":["docker","stop","web"]}`
		why      = `"why":[{"kind":"socket","name":"127.0.0.1:8000"},{"kind":"process","name":"node","pid":4242},{"kind":"unit","name":"web.service"}]`
		free     = `"port":8000,"verdict":"free","bindable":true,"listeners":[],"findings":[]`
		taker    = `{"local_addr":"127.0.0.1","pid":7,"name":"node","birth":"b:3:4","newborn":true,"socket":{"inode":1}}`
	)
	because := func(cause, evidence string) string {
		finding := fmt.Sprintf(`{"cause":%q,"severity":"info","summary":"s","evidence":{%s}}`, cause, evidence)
		return strings.Replace(free, `"findings":[]`, `"findings":[`+finding+`]`, 1)
	}
	explained := func(why string) string {
		return fmt.Sprintf(`"port":8000,"verdict":"held","bindable":false,"bind_error":"EADDRINUSE","listeners":[{%s,%s,%s}],"findings":[]`, held, alive, why)
	}
	for _, tt := range []struct{ kind, valid, old, new string }{
		{"listeners", held, `"TCP"`, `"SCTP"`},
		{"listeners", held, `"pid":4242`, `"pid":0`},
		{"listeners", held, `"pid":4242`, `"pid":"4242"`},
		{"listeners", held, `"pid":4242,`, ``},
		{"listeners", held, `"pid":4242,`, `"pid":4242,"owner":"none",`},
		{"listeners", held, `"pid":4242,`, `"pid":4242,"protected":"ancestor",`},
		{"listeners", listener + `,"pid":0,"owner":"none","mine":1`, `"mine":1`, `"protected":"pipeline"`},
		{"listeners", held, `"127.0.0.1"`, `"::1"`},
		{"listeners", held, `"local_port":8000`, `"local_port":0`},
		{"listeners", held, `"inode":529089`, `"inode":529089,"fd":3`},
		{"listeners", listener + `,"pid":0,"owner":"hidden"`, `"hidden"`, `"nobody"`},
		{"listeners", listener + `,"pid":0,"owner":"none"`, `,"owner":"none"`, ``},
		{"listeners", held + `,"state":"bound"`, `"bound"`, `"closed"`},
		{"listeners", held + `,"state":"bound"`, `"TCP"`, `"UDP"`},
		{"listeners", held + `,"device":"eth0"`, `"eth0"`, `""`},
		{"listeners", listener + `,"pid":0,"owner":"hidden","hidden_by":"namespace"`, `"namespace"`, `"nobody"`},
		{"listeners", listener + `,"pid":0,"owner":"hidden","hidden_by":"births"`, `"hidden"`, `"none"`},
		{"classify", freed + `,"addr":"[fe80::1%eth0]"`, `"[fe80::1%eth0]"`, `"fe80::1"`},
		{"classify", freed + `,"isolated":["pid","net"]`, `"net"`, `"user"`},
		{"classify", freed + `,"isolated":["pid"]`, `["pid"]`, `[]`},
		{"classify", freed, `"remaining_pids":[]`, `"remaining_pids":[7]`},
		{"portdiag", free + `,"addr":"127.0.0.1","isolated":["net"]`, `["net"]`, `["net","net"]`},
		{"portdiag", free + `,"addr":"127.0.0.1"`, `"127.0.0.1"`, `""`},
		{"listeners", listener + `,"pid":0,"owner":"none","mine":{"a":null}`, `,"owner":"none"`, `,"owner":"none","birth":"b:1:2"`},
		{"pidcheck", held + "," + alive, "," + alive, ``},
		{"pidcheck", held + "," + alive, `"alive"`, `"dead"`},
		{"pidcheck", held + "," + alive, `"alive"`, `"reused"`},
		{"pidcheck", held + "," + alive, `"alive"`, `"unverified"`},
		{"pidcheck", held + "," + alive, `"name"`, `"nom"`},
		{"pidcheck", held + "," + alive, `17:30:00Z`, `half past five`},
		{"pidcheck", held + `,"pidcheck":{"exists":true,"state":"alive","managed_by":{"kind":"container","name":"web","listens":["TCP 0.0.0.0:8001","UDP [::1]:53"]}}`, `TCP 0`, `SCTP 0`},
		{"pidcheck", held + `,"pidcheck":{"exists":true,"state":"alive","managed_by":{"kind":"container","name":"web","listens":["TCP 0.0.0.0:8001"]}}`, `0.0.0.0:8001`, `everywhere`},
		{"pidcheck", held + `,"pidcheck":{"exists":true,"state":"alive","managed_by":{"kind":"socket_unit","name":"web.socket","listens":["TCP 0.0.0.0:8001"]}}`, `socket_unit`, `supervisor`},
		{"pidcheck", held + `,"pidcheck":{"exists":true,"state":"alive","managed_by":{"kind":"unit","name":"db.service","also_stops":["app.service"]}}`, `"unit"`, `"container"`},
		{"classify", freed + `,"forced":[4242]`, `"forced":[4242]`, `"forced":[]`},
		{"classify", freed + `,"forced":[4242]`, `"forced":[4242]`, `"forced":["4242"]`},
		{"pkill2", held + `,"pkill2":{"outcome":"terminated","taken_by":[` + taker + `]}`, `"newborn":true`, `"newborn":false`},
		{"pkill2", held + `,"pkill2":{"outcome":"terminated","taken_by":[` + taker + `]}`, `"pid":7,`, ``},
		{"pkill2", held + `,"pkill2":{"outcome":"terminated","taken_by":[` + taker + `]}`, `[` + taker + `]`, `[]`},
		{"pkill2", held + `,"pkill2":{"outcome":"gone","reason":"held"}`, `"held"`, `"kept"`},
		{"pkill2", held + `,"pkill2":{"outcome":"ghost"}`, `"ghost"`, `"spirit"`},
		{"pkill2", held + `,"pkill2":{"outcome":"protected","reason":"self"}`, `,"reason":"self"`, ``},
		{"pkill2", held + `,"pkill2":{"outcome":"protected","reason":"self"}`, `"reason":"self"`, `"reason":"us"`},
		{"pkill2", held + `,"mine":1,"pkill2":{"outcome":"killed","signals":["SIGKILL"],"took_ms":0}`, `"took_ms":0`, `"took_ms":0.5`},
		{"pidcheck", held + `,"pidcheck":{"exists":true,"state":"alive",` + managed + `}`, `"container"`, `"unit"`},
		{"pidcheck", held + `,"pidcheck":{"exists":true,"state":"alive",` + managed + `}`, `"container"`, `"box"`},
		{"pidcheck", held + `,"pidcheck":{"exists":true,"state":"alive",` + managed + `}`, `"docker"`, `"dokcer"`},
		{"pidcheck", held + `,"pidcheck":{"exists":true,"state":"alive",` + managed + `}`, `["docker","stop","web"]`, `[]`},
		{"pkill2", held + `,"pkill2":{"outcome":"stopped","stop":["systemctl","stop","x.service"],"took_ms":7}`, `"stop":["systemctl","stop","x.service"],`, ``},
		{"pkill2", held + `,"pkill2":{"outcome":"stopped","stop":["systemctl","stop","x.service"],"took_ms":7}`, `"took_ms"`, `"signals":["SIGTERM"],"took_ms"`},
		{"pkill2", held + `,"pkill2":{"outcome":"would_stop","stop":["systemctl","stop","x.service"]}`, `would_stop`, `would_terminate`},
		{"classify", freed, `"cleaned"`, `"clean"`},
		{"classify", freed, `"cleaned"`, `"free"`},
		{"classify", freed, `"cleaned"`, `"stuck"`},
		{"classify", freed, `"failed":[]`, `"failed":[4242]`},
		{"classify", freed, `"failed":[]`, `"failed":null`},
		{"classify", freed, `"killed":[4242]`, `"killed":[4242,4242]`},
		{"classify", freed, `"still_listening":false`, `"still_listening":true`},
		{"classify", freed, `"port":8000`, `"port":8000,"mine":1`},
		{"portdiag", free, `"bindable":true`, `"bindable":false,"bind_error":"EADDRINUSE"`},
		{"portdiag", free, `"free"`, `"held"`},
		{"portdiag", free, `"findings":[]`, `"findings":[{"cause":"gremlins","severity":"info","summary":"s","evidence":{}}]`},
		{
			"portdiag", strings.Replace(free, `"findings":[]`, `"findings":[{"cause":"time_wait","severity":"info","summary":"s","evidence":{"count":1,"clears_in_ms":7}}]`, 1),
			`,"clears_in_ms":7`, ``,
		},
		{"portdiag", because("container", `"name":"web","engine":"docker"`), `"engine":"docker"`, `"user":true`},
		{"portdiag", because("unit", `"name":"web.service","restart":"always"`), `"name":"web.service",`, ``},
		{"portdiag", because("socket_unit", `"name":"web.socket","pid":1`), `"pid":1`, `"pid":"1"`},
		{"portdiag", because("supervisor", `"name":"nodemon","pid":4242,"supervisor_pid":4200`), `,"supervisor_pid":4200`, ``},
		{"portdiag", because("ssh_forward", `"name":"ssh","pid":4242,"argv":["ssh"]`), `["ssh"]`, `"ssh"`},
		{"portdiag", because("kernel", `"thread":"nfsd","unit":"nfs-server.service"`), `"thread":"nfsd",`, ``},
		{"portdiag", because("kernel", `"kind":"vxlan","links":["x0"]`), `["x0"]`, `[]`},
		{"portdiag", because("dnat", `"rules":["ip nat pre handle 4"],"targets":[]`), `["ip nat pre handle 4"]`, `[]`},
		{"portdiag", because("other_namespace", `"addr":"127.0.0.1:8000","namespace":"net:[4026532281]","inode":7,"uid":0`), `"uid":0`, `"uid":0,"container":"web"`},
		{"portdiag", because("reserved_port", `"reserved":"8000-8010"`), `8010`, `all`},
		{"portdiag", because("ephemeral_port", `"range":"32768-60999"`), `-60999`, ``},
		{"portdiag", explained(why), `"unit","name":"web.service"`, `"unit","name":""`},
		{"portdiag", explained(why), `"process","name":"node","pid":4242`, `"process","name":"node"`},
		{"portdiag", explained(why), `"unit"`, `"cause"`},
	} {
		schematest.Validate(t, tt.kind, []byte("{"+tt.valid+"}"))
		line := fmt.Sprintf("{%s}", strings.Replace(tt.valid, tt.old, tt.new, 1))
		if line == "{"+tt.valid+"}" {
			t.Fatalf("%q is not in %s", tt.old, tt.valid)
		}
		if err := schematest.Check(tt.kind, []byte(line)); err == nil {
			t.Errorf("%s record %s is valid; want it refused", tt.kind, line)
		}
	}
}
