package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// failure is one thing that went wrong, as it is printed.
type failure struct {
	Kind    vswitch.Kind `json:"kind"`
	Message string       `json:"message"`
	Hint    string       `json:"hint,omitempty"`
}

// failureReport is a failure in JSON and YAML. Problems lists them all where
// there are several; the first three fields are then those of the first.
type failureReport struct {
	failure
	Problems []failure `json:"problems,omitempty"`
}

// errNotReady ends `status` of a host that is not ready; the problems are printed
// as its result and not again.
var errNotReady = errors.New("not ready")

// errTold ends a command whose failures were printed as they came.
var errTold = errors.New("failed")

// report prints an error and returns the exit code.
func (c *cli) report(err error, args []string) int {
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errNotReady) || errors.Is(err, errTold) {
		return exitFailure
	}
	if errors.Is(err, errDiffers) {
		return exitDiffers
	}
	failures := failuresOf(err, "")
	if !c.root && errors.Is(err, fs.ErrPermission) {
		for i := range failures {
			failures[i].Hint = fmt.Sprintf("run `sudo patchbay %s`", vswitch.ShellWords(args...))
		}
	}
	fmt.Fprint(c.stderr, formatFailures(failures, wantedFormat(c.output, args))) //nolint:errcheck // there is nowhere left to say so
	return exitCode(failures[0].Kind)
}

// formatFailures renders failures for people or for programs.
func formatFailures(failures []failure, f format) string {
	report := failureReport{failure: failures[0]}
	if len(failures) > 1 {
		report.Problems = failures
	}
	var b strings.Builder
	switch f {
	case jsonFormat:
		text, _ := json.Marshal(report)
		b.Write(append(text, '\n'))
	case yamlFormat:
		text, _ := yaml.Marshal(report)
		b.Write(text)
	default:
		for _, f := range failures {
			fmt.Fprintf(&b, "patchbay: %s\n", f.Message)
			if f.Hint != "" {
				fmt.Fprintf(&b, "  hint: %s\n", f.Hint)
			}
		}
	}
	return b.String()
}

// failuresOf takes an error apart into the things that went wrong. An error may
// hold several: a definition with three mistakes, a GC that failed for two ports.
func failuresOf(err error, subject string) []failure {
	if e, ok := err.(*vswitch.Error); ok { //nolint:errorlint // every layer is taken off in turn
		subject = subjectOf(e, subject)
		if inner := partsOf(e.Err); inner != nil {
			return within(e, inner, subject)
		}
		return []failure{{Kind: e.Kind, Message: prefixed(subject, causeOf(e)), Hint: hintOf(e)}}
	}
	if parts := partsOf(err); parts != nil {
		var all []failure
		for _, part := range parts {
			all = append(all, failuresOf(part, subject)...)
		}
		return all
	}
	e := &vswitch.Error{Kind: vswitch.KindOf(err), Err: err}
	return []failure{{Kind: e.Kind, Message: prefixed(subject, causeOf(e)), Hint: hintOf(e)}}
}

// within are the failures that e sums up.
func within(e *vswitch.Error, parts []error, subject string) []failure {
	var all []failure
	for _, part := range parts {
		for _, f := range failuresOf(part, subject) {
			if f.Hint == "" {
				f.Hint = e.Hint
			}
			all = append(all, f)
		}
	}
	return all
}

// partsOf returns what an error consists of that only holds others: a joined
// error, or one of ours below another. Nil for any other.
func partsOf(err error) []error {
	if _, ok := err.(*vswitch.Error); ok { //nolint:errorlint // of this layer alone
		return []error{err}
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	parts := slices.DeleteFunc(slices.Clone(joined.Unwrap()), func(e error) bool { return e == nil })
	var texts []string
	for _, p := range parts {
		texts = append(texts, p.Error())
	}
	if len(parts) == 0 || err.Error() != strings.Join(texts, "\n") {
		return nil // fmt.Errorf with words between its errors
	}
	return parts
}

// subjectOf says what was tried on what, with that of the layers above: "switch
// add" of "switch lan" is said as "switch add lan".
func subjectOf(e *vswitch.Error, above string) string {
	object := e.Object
	noun, rest, _ := strings.Cut(object, " ")
	if verb := e.Op; verb != "" {
		if strings.HasPrefix(verb, noun+" ") && rest != "" {
			object = rest
		}
		own := verb
		switch object {
		case "":
		case rest:
			own += " " + object
		default:
			own = prefixed(verb, object) // "switch list: store /run/..."
		}
		if above == "" || above == own {
			return own
		}
		return above + ": " + own
	}
	if object == "" || rest != "" && strings.HasSuffix(above, " "+rest) {
		return above
	}
	return prefixed(above, object)
}

func prefixed(subject, text string) string {
	if subject == "" {
		return text
	}
	return subject + ": " + text
}

// causeOf is the cause without the hint that an error inside ends with.
func causeOf(e *vswitch.Error) string {
	text := e.Cause()
	var inner *vswitch.Error
	if errors.As(e.Err, &inner) && inner.Hint != "" {
		text = strings.TrimSuffix(text, "; "+inner.Hint)
	}
	return strings.ReplaceAll(text, "\n", "; ")
}

func hintOf(e *vswitch.Error) string {
	if e.Hint != "" {
		return e.Hint
	}
	return vswitch.HintOf(e.Err)
}

// asked names the command that the user gave on the error of another verb that it
// needed on the way.
func asked(cmd *cobra.Command, err error) error {
	var e *vswitch.Error
	if !errors.As(err, &e) {
		return err
	}
	renamed := *e
	renamed.Op = operation(cmd)
	return &renamed
}

// nothingGiven is the fault of a "set" that names nothing to change; flag is one that would.
func nothingGiven(cmd *cobra.Command, name, flag string) error {
	op := operation(cmd)
	noun, _, _ := strings.Cut(op, " ")
	return &vswitch.Error{
		Kind: vswitch.Invalid, Op: op, Object: noun + " " + name, Err: errors.New("nothing to change is given"),
		Hint: fmt.Sprintf("name what to change, as in `patchbay %s %s %s`; `patchbay %s --help` lists the flags", op, name, flag, op),
	}
}
