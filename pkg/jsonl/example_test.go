package jsonl_test

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/killport/killport/pkg/jsonl"
)

// A command is a stage between a reader and a writer.
func Example() {
	even := jsonl.Map(func(_ context.Context, r jsonl.Record) (jsonl.Record, error) {
		pid, err := r.Uint("pid", 2, 1<<22)
		if err != nil {
			return r, err
		}
		return r.With("even", pid%2 == 0)
	})

	in := strings.NewReader(strings.Join([]string{
		`{ "pid": 4242, "whatever": [1.50] }`,
		`{"pid": 42`,
		`{"PID": 4243}`,
		`{"pid": 4243}`,
	}, "\n"))
	out := even(context.Background(), jsonl.Read(in)(context.Background()))
	err := jsonl.Write(os.Stdout, out, func(err error) { fmt.Println("error:", err) })
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// { "pid": 4242, "whatever": [1.50],"even":true}
	// error: line 2: not valid JSON: "{\"pid\": 42"
	// error: line 3: member "pid" is spelled "PID"
	// {"pid": 4243,"even":false}
}
