package vswitch

import (
	"errors"
	"fmt"
)

// KindOf returns the kind of the first Error in err's tree, or KernelFailed
// for an error that carries none: whatever reaches the user has a kind.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	var k Kind
	if errors.As(err, &k) {
		return k
	}
	return KernelFailed
}

// HintOf returns the hint of the first Error in err's tree, or "".
func HintOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

// problems collects what a Validate finds, so that a user mends a file once.
type problems []error

func (p *problems) add(kind Kind, object, format string, args ...any) {
	_ = p.found(kind, object, format, args...)
}

// found is add for what is in one field: p.found(...).in("mtu").
func (p *problems) found(kind Kind, object, format string, args ...any) *Error {
	e := &Error{Kind: kind, Object: object, Err: fmt.Errorf(format, args...)}
	*p = append(*p, e)
	return e
}

// in says which field of the definition is at fault.
func (e *Error) in(field string) { e.Field = field }

func (p problems) join() error { return errors.Join(p...) }
