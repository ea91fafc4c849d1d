package engine

import (
	"errors"
	"fmt"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// fault names the verb and its object on an error on its way out. An error that
// names them already passes; nil stays nil, so that every return may use it.
func fault(op, object string, err error) error {
	if err == nil {
		return nil
	}
	var v *vswitch.Error
	if e, ok := err.(*vswitch.Error); ok { //nolint:errorlint // only the outermost error may be completed
		if e.Op != "" {
			return e
		}
		named := *e
		named.Op, named.Object, named.Err = op, object, about(e, object)
		return &named
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok && len(many.Unwrap()) == 1 { // errors.Join of one
		return fault(op, object, many.Unwrap()[0])
	}
	out := &vswitch.Error{Kind: vswitch.KindOf(err), Op: op, Object: object, Err: err, Hint: vswitch.HintOf(err)}
	if s, ok := err.(*kernel.StepError); ok && errors.As(s.Err, &v) { //nolint:errorlint // only an error that is nothing more than the step's
		// The step's own words are for the log; the user gets the reason.
		out.Err = about(v, object)
	}
	return out
}

// about is an error's cause with what it is about, unless that is the object of
// the verb itself.
func about(e *vswitch.Error, object string) error {
	cause := e.Err
	if cause == nil {
		cause = e.Kind
	}
	if e.Object == "" || e.Object == object {
		return cause
	}
	return fmt.Errorf("%s: %w", e.Object, cause)
}

// undone is a failure and that of its undo, if that failed too.
func undone(err, undo error) error {
	if undo == nil {
		return err
	}
	return fmt.Errorf("%w; the undo failed too: %w", err, undo)
}
