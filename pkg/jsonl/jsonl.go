// Package jsonl is the pipe: records, sequences of records, and the stages
// that turn one sequence into another. It knows no port, no PID and no
// operating system.
//
// A command is one stage between [Read] and [Write]; killport puts the same
// stages in a row with [Chain], with no reader or writer between them.
//
// The contract of a [Seq]:
//
//  1. An error concerns the place where it appears (a bad line 7 says nothing
//     of line 8); iteration may go on.
//  2. A stage passes errors from upstream on, unchanged and in order.
//  3. An expected outcome is data, an unexpected failure is an error. "gone",
//     "reused", "denied", "still listening" are values inside a record; a line
//     that is not JSON, or a socket table that cannot be read, is an error.
//  4. In a pipe errors go to stderr and into the exit status; in process they
//     travel to the sink, which does the same.
//  5. When the consumer stops, the stage stops pulling and closes what it
//     opened.
package jsonl

import (
	"context"
	"iter"
)

// Seq is a sequence of records and of errors between them. In each pair
// exactly one of the two is set.
type Seq = iter.Seq2[Record, error]

// Source starts a sequence.
type Source func(context.Context) Seq

// Stage turns one sequence into another. It keeps the contract of the
// package comment, and it may be used for one sequence after another.
type Stage func(context.Context, Seq) Seq

// Chain puts stages in a row. Chain() passes everything on as it is.
func Chain(stages ...Stage) Stage {
	return func(ctx context.Context, seq Seq) Seq {
		for _, stage := range stages {
			seq = stage(ctx, seq)
		}
		return seq
	}
}

// Map is the stage that replaces each record by what f makes of it, one at a
// time and as they come. An error of f stands where the record stood.
func Map(f func(context.Context, Record) (Record, error)) Stage {
	return func(ctx context.Context, seq Seq) Seq {
		return func(yield func(Record, error) bool) {
			for r, err := range seq {
				if err == nil {
					r, err = f(ctx, r)
				}
				if err != nil {
					r = Record{}
				}
				if !yield(r, err) {
					return
				}
			}
		}
	}
}

// From is the sequence of the given records.
func From(records ...Record) Seq {
	return func(yield func(Record, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// Fail is the sequence that holds nothing but err.
func Fail(err error) Seq {
	return func(yield func(Record, error) bool) { yield(Record{}, err) }
}
