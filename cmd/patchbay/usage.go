package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// usageError is the error of a command line that cannot be meant; its hint is how
// to write the command.
func usageError(cmd *cobra.Command, message string, args ...any) error {
	return &vswitch.Error{
		Kind: vswitch.Invalid, Op: operation(cmd), Err: fmt.Errorf(message, args...),
		Hint: fmt.Sprintf("write `%s`; `%s --help` explains it", synopsis(cmd), cmd.CommandPath()),
	}
}

// operation is a command's name without the program's: "switch add".
func operation(cmd *cobra.Command) string {
	return strings.TrimPrefix(strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()), " ")
}

func synopsis(cmd *cobra.Command) string {
	return strings.TrimSuffix(cmd.UseLine(), " [flags]")
}

// unknownCommand is the error of a word that names no command of cmd.
func unknownCommand(cmd *cobra.Command, word string) error {
	var names []string
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			names = append(append(names, sub.Name()), sub.Aliases...)
		}
	}
	hint := fmt.Sprintf("run `%s --help`", cmd.CommandPath())
	if near := nearestCommand(cmd, word, names); near != "" {
		hint = fmt.Sprintf("did you mean `%s %s`?", cmd.CommandPath(), near)
	}
	return &vswitch.Error{Kind: vswitch.Invalid, Op: operation(cmd), Err: fmt.Errorf("there is no command %.64q", word), Hint: hint}
}

// nearestCommand prefers what a command says it is called elsewhere ("get" for
// show) to what is spelled alike.
func nearestCommand(cmd *cobra.Command, word string, names []string) string {
	for _, sub := range cmd.Commands() {
		for _, other := range sub.SuggestFor {
			if strings.EqualFold(other, word) {
				return sub.Name()
			}
		}
	}
	return vswitch.Nearest(word, names)
}

// flagError words what pflag refuses.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		return unknownFlag(cmd, unknown.GetSpecifiedName())
	}
	var value *pflag.InvalidValueError
	if errors.As(err, &value) {
		return invalidValue(cmd, value)
	}
	var bare *pflag.ValueRequiredError
	if errors.As(err, &bare) {
		return usageError(cmd, "--%s needs a value", bare.GetFlag().Name)
	}
	return usageError(cmd, "%w", err)
}

func unknownFlag(cmd *cobra.Command, name string) error {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	dashes := "--"
	if len(name) == 1 {
		dashes = "-"
	}
	hint := fmt.Sprintf("run `%s --help`", cmd.CommandPath())
	if near := vswitch.Nearest(name, names); near != "" && len(name) > 1 {
		hint = fmt.Sprintf("did you mean --%s?", near)
	}
	return &vswitch.Error{Kind: vswitch.Invalid, Op: operation(cmd), Err: fmt.Errorf("there is no flag %s%.64s", dashes, name), Hint: hint}
}

func invalidValue(cmd *cobra.Command, e *pflag.InvalidValueError) error {
	flag := e.GetFlag()
	cause := e.Unwrap()
	out := &vswitch.Error{
		Kind: vswitch.Invalid, Op: operation(cmd),
		Hint: fmt.Sprintf("give --%s: %s", flag.Name, strings.ReplaceAll(flag.Usage, "`", "")),
	}
	var known *vswitch.Error
	switch {
	case errors.As(cause, &known):
		out.Kind, out.Err = known.Kind, fmt.Errorf("--%s: %s", flag.Name, known.Cause())
		if known.Hint != "" {
			out.Hint = known.Hint
		}
	case flag.Value.Type() == "int":
		out.Err = fmt.Errorf("--%s: %.64q is not a whole number", flag.Name, e.GetValue())
	case flag.Value.Type() == "bool":
		out.Err = fmt.Errorf("--%s: %.64q is neither true nor false", flag.Name, e.GetValue())
	default:
		out.Err = fmt.Errorf("--%s: %w", flag.Name, cause)
	}
	return out
}
