package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// format is how results are printed.
type format string

const (
	table      format = "table"
	jsonFormat format = "json"
	yamlFormat format = "yaml"
)

func formats() []string { return []string{string(table), string(jsonFormat), string(yamlFormat)} }

// String, Set and Type make a format a flag's value.
func (f *format) String() string { return string(*f) }

// Set accepts one of the formats.
func (f *format) Set(s string) error {
	if !slices.Contains(formats(), s) {
		return fmt.Errorf("%.32q is none of %s", s, strings.Join(formats(), ", "))
	}
	*f = format(s)
	return nil
}

// Type names the value in usage texts.
func (f *format) Type() string { return "format" }

// wantedFormat finds out the format of an error on a command line that may not
// have been read to its -o.
func wantedFormat(read format, args []string) format {
	for i, a := range args {
		value, ok := strings.CutPrefix(a, "--output=")
		if !ok && strings.HasPrefix(a, "-o") {
			value, ok = strings.TrimPrefix(a[2:], "="), true
		}
		if (a == "-o" || a == "--output") && i+1 < len(args) {
			value, ok = args[i+1], true
		}
		if ok && slices.Contains(formats(), value) {
			return format(value)
		}
	}
	return read
}

// print writes a result: v itself for programs, the text for people.
func (c *cli) print(v any, text func() string) error {
	out, err := c.format(v, text)
	if err != nil {
		return err
	}
	_, err = c.stdout.Write(out)
	return err
}

// format is what print writes.
func (c *cli) format(v any, text func() string) ([]byte, error) {
	switch c.output {
	case jsonFormat:
		out, err := json.MarshalIndent(v, "", "  ")
		return append(out, '\n'), err
	case yamlFormat:
		return yaml.Marshal(v)
	}
	return []byte(text()), nil
}

// say writes one line for people; programs get v.
func (c *cli) say(v any, line string, args ...any) error {
	return c.print(v, func() string { return fmt.Sprintf(line, args...) + "\n" })
}

// complete offers fixed words for a flag's value.
func complete(cmd *cobra.Command, flag string, words ...string) {
	completeBy(cmd, flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

func completeBy(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // the flag is misspelled right here
	}
}
