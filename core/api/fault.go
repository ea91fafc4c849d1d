package api

import (
	"context"
	"errors"
	"syscall"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// wireError is an error's tree, so that what a face does with an error of the
// engine in its own process it can do with one that comes from afar: errors.Is
// with a kind or an errno, errors.As with *vswitch.Error, and taking it apart.
type wireError struct {
	// Of a *vswitch.Error, whose text follows from them.
	Kind   vswitch.Kind `json:"kind,omitempty"`
	Op     string       `json:"op,omitempty"`
	Object string       `json:"object,omitempty"`
	Hint   string       `json:"hint,omitempty"`
	Field  string       `json:"field,omitempty"`
	// Of any other error.
	Text  string       `json:"text,omitempty"`
	Is    vswitch.Kind `json:"is,omitempty"` // it is this kind itself
	Errno int          `json:"errno,omitempty"`
	Done  string       `json:"done,omitempty"` // it is a context's end

	Cause  *wireError   `json:"cause,omitempty"`  // Unwrap() error
	Causes []*wireError `json:"causes,omitempty"` // Unwrap() []error
}

// The ends of a context by name.
const (
	doneCanceled = "canceled"
	doneDeadline = "deadline"
)

// maxErrorDepth bounds a tree; deeper down only the text is told.
const maxErrorDepth = 64

func encodeError(err error, depth int) *wireError {
	if err == nil {
		return nil
	}
	w := &wireError{}
	switch e := err.(type) { //nolint:errorlint // every layer is taken off in turn
	case *vswitch.Error:
		w.Kind, w.Op, w.Object, w.Hint, w.Field = e.Kind, e.Op, e.Object, e.Hint, e.Field
		w.Cause = encodeError(e.Err, depth+1)
		return w
	case vswitch.Kind:
		w.Is = e
		return w
	case syscall.Errno:
		w.Errno = int(e)
		return w
	}
	w.Text = err.Error()
	if depth > maxErrorDepth {
		return w
	}
	switch err { //nolint:errorlint // this layer alone
	case context.Canceled:
		w.Done = doneCanceled
	case context.DeadlineExceeded:
		w.Done = doneDeadline
	}
	switch e := err.(type) { //nolint:errorlint // every layer is taken off in turn
	case interface{ Unwrap() error }:
		w.Cause = encodeError(e.Unwrap(), depth+1)
	case interface{ Unwrap() []error }:
		for _, cause := range e.Unwrap() {
			w.Causes = append(w.Causes, encodeError(cause, depth+1))
		}
	}
	return w
}

// err is the error again.
func (w *wireError) err() error {
	switch {
	case w == nil:
		return nil
	case w.Kind != "":
		return &vswitch.Error{Kind: w.Kind, Op: w.Op, Object: w.Object, Hint: w.Hint, Field: w.Field, Err: w.Cause.err()}
	case w.Is != "":
		return w.Is
	case w.Errno != 0:
		return syscall.Errno(w.Errno)
	case w.Done == doneCanceled:
		return context.Canceled
	case w.Done == doneDeadline:
		return context.DeadlineExceeded
	case len(w.Causes) > 0:
		many := toldMany{text: w.Text}
		for _, c := range w.Causes {
			many.causes = append(many.causes, c.err())
		}
		return many
	case w.Cause != nil:
		return told{text: w.Text, cause: w.Cause.err()}
	}
	return errors.New(w.Text)
}

// told is an error of another process.
type told struct {
	text  string
	cause error
}

func (e told) Error() string { return e.text }
func (e told) Unwrap() error { return e.cause }

// toldMany is one that wraps several.
type toldMany struct {
	text   string
	causes []error
}

func (e toldMany) Error() string   { return e.text }
func (e toldMany) Unwrap() []error { return e.causes }
