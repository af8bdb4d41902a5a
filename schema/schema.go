// Package schema holds the JSON Schemas (2020-12) of the records, one file for
// each kind: what "listeners" puts out is described by listeners.schema.json.
package schema

import "embed"

// Files are the schemas. Their references to one another are relative.
//
//go:embed *.schema.json
var Files embed.FS
