package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/config"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// configFiles are the files that make a configuration together.
type configFiles []string

func (f *configFiles) flag(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP((*[]string)(f), "file", "f", nil, "`file` with the configuration, - for standard input; can be repeated")
}

// read parses all files. "-" is standard input.
func (c *cli) read(cmd *cobra.Command, files configFiles) (vswitch.Config, error) {
	if len(files) == 0 {
		return vswitch.Config{}, usageError(cmd, "-f FILE is missing")
	}
	var sources []config.Source
	for _, name := range files {
		s, err := c.source(name)
		if err != nil {
			return vswitch.Config{}, asConfigError(cmd, name, err)
		}
		sources = append(sources, s)
	}
	return config.Parse(sources...)
}

func (c *cli) source(name string) (config.Source, error) {
	if name == "-" {
		return config.Read("<stdin>", c.stdin)
	}
	f, err := os.Open(name)
	if err != nil {
		return config.Source{}, err
	}
	defer f.Close() //nolint:errcheck // only read
	return config.Read(name, f)
}

func asConfigError(cmd *cobra.Command, name string, err error) error {
	var known *vswitch.Error
	if errors.As(err, &known) {
		return err
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return &vswitch.Error{
		Kind: vswitch.Invalid, Op: operation(cmd), Err: fmt.Errorf("%s: %w", name, err),
		Hint: "name a file; `patchbay export` shows what one looks like",
	}
}
