package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker: -X main.version=v1.2.3.
var version string

// build says which Patchbay this is.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// buildVersion takes what the linker was told, or else what go install recorded.
func buildVersion() build {
	b := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if ok && b.Version == "" {
		b.Version = info.Main.Version
	}
	if ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Revision = s.Value
			}
		}
	}
	if b.Version == "" {
		b.Version = "unknown"
	}
	return b
}

// String is one line: the version and what it was built with.
func (b build) String() string {
	const short = 12
	revision := ""
	if len(b.Revision) >= short {
		revision = " " + b.Revision[:short]
	}
	return fmt.Sprintf("%s%s (%s, %s)", b.Version, revision, b.Go, b.Platform)
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print which Patchbay this is",
		Long: `Print the version, the commit it was built from, the Go version and the platform:
what a report of a fault should begin with.`,
		Example: `  patchbay version
  patchbay version -o json`,
		Args: operands(),
		RunE: func(*cobra.Command, []string) error {
			b := buildVersion()
			return c.say(b, "patchbay %s", b)
		},
	}
}
