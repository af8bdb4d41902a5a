// Package schematest checks in tests that what the tools put out is what the
// schemas say.
package schematest

import (
	"bytes"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/killport/killport/schema"
)

// Validate checks that line is one record of the kind: listeners, pidcheck,
// pkill2, classify or portdiag.
func Validate(t testing.TB, kind string, line []byte) {
	t.Helper()
	if err := Check(kind, line); err != nil {
		t.Errorf("%s record %s: %v", kind, line, err)
	}
}

// Check is Validate for those who want the error.
func Check(kind string, line []byte) error {
	all, err := compiled()
	if err != nil {
		return err
	}
	of, ok := all[kind]
	if !ok {
		return fmt.Errorf("there is no schema of %q", kind)
	}
	record, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
	if err != nil {
		return err
	}
	return of.Validate(record)
}

// compiled are the schemas by kind.
var compiled = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	const base = "https://killport.invalid/" // nothing is fetched
	names, err := fs.Glob(schema.Files, "*.schema.json")
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for _, name := range names {
		f, err := schema.Files.Open(name)
		if err != nil {
			return nil, err
		}
		doc, err := jsonschema.UnmarshalJSON(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if err := c.AddResource(base+name, doc); err != nil {
			return nil, err
		}
	}
	all := map[string]*jsonschema.Schema{}
	for _, name := range names {
		kind := strings.TrimSuffix(name, ".schema.json")
		if all[kind], err = c.Compile(base + name); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return all, nil
})
