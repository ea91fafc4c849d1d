package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// verb carries out one kind of request. parse refuses arguments that are not
// exactly those of the verb, before anything is done: a field that this build does
// not know must not be ignored.
type verb struct {
	parse func(raw []json.RawMessage) (call, error)
	// changes says that the verb may change the host. It is finished, or undone by
	// itself, even if the client goes away.
	changes bool
}

// call is a verb with its arguments.
type call struct {
	verb    string
	changes bool
	args    []any // for the log
	do      func(context.Context, Verbs) (any, error)
}

func changes(v verb) verb {
	v.changes = true
	return v
}

func none[R any](do func(Verbs, context.Context) (R, error)) verb {
	return verb{parse: func(raw []json.RawMessage) (call, error) {
		return call{do: func(ctx context.Context, v Verbs) (any, error) { return do(v, ctx) }}, decodeAll(raw)
	}}
}

func one[A, R any](do func(Verbs, context.Context, A) (R, error)) verb {
	return verb{parse: func(raw []json.RawMessage) (call, error) {
		var a A
		err := decodeAll(raw, &a)
		return call{args: []any{a}, do: func(ctx context.Context, v Verbs) (any, error) { return do(v, ctx, a) }}, err
	}}
}

func two[A, B, R any](do func(Verbs, context.Context, A, B) (R, error)) verb {
	return verb{parse: func(raw []json.RawMessage) (call, error) {
		var a A
		var b B
		err := decodeAll(raw, &a, &b)
		return call{args: []any{a, b}, do: func(ctx context.Context, v Verbs) (any, error) { return do(v, ctx, a, b) }}, err
	}}
}

// nothing is the answer of a verb that has none but its error.
type nothing struct{}

func oneQuiet[A any](do func(Verbs, context.Context, A) error) verb {
	return one(func(v Verbs, ctx context.Context, a A) (nothing, error) { return nothing{}, do(v, ctx, a) })
}

func twoQuiet[A, B any](do func(Verbs, context.Context, A, B) error) verb {
	return two(func(v Verbs, ctx context.Context, a A, b B) (nothing, error) { return nothing{}, do(v, ctx, a, b) })
}

// decodeAll reads each argument and refuses fields that its type does not have.
func decodeAll(raw []json.RawMessage, into ...any) error {
	if len(raw) != len(into) {
		return &vswitch.Error{Kind: vswitch.Invalid, Err: fmt.Errorf("%d arguments, want %d", len(raw), len(into))}
	}
	for i, r := range raw {
		if err := decodeStrict(r, into[i]); err != nil {
			return &vswitch.Error{Kind: vswitch.Invalid, Err: fmt.Errorf("argument %d: %w", i+1, err)}
		}
	}
	return nil
}

func decodeStrict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("more than one JSON value")
	}
	return nil
}
