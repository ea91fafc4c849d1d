package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk/conformance"
)

func (c *cli) pluginCheckCommand() *cobra.Command {
	var config, junit string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "check PLUGIN",
		Short: "Try whether a plugin does all that it must",
		Long: `Start a plugin and try whether it does what package sdk promises of plugins: every verb
twice, NICs that there are not, requests that are late, capacity to its end, callers that
go away, restarts and crashes between verbs, and what is left behind. PLUGIN is the path
of its program, or the name of one that is installed.

It asks for grants on the NICs that the plugin finds, for ports of its own, and releases
them again: with hardware, use NICs that nobody needs. What cannot be tried, for want of a
NIC, is skipped and listed. The exit code is 1 if anything failed or nothing passed.`,
		Example: `  patchbay plugin check ./patchbay-plugin-acme
  patchbay plugin check acme --config '{"queues": 2}' --junit report.xml
  patchbay plugin check acme -o json`,
		SuggestFor:        []string{"test", "verify", "validate"},
		Args:              operands("PLUGIN"),
		ValidArgsFunction: completePlugins,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := namedPlugin(args[0])
			if err != nil {
				return err
			}
			log := slog.New(slog.DiscardHandler)
			if verbose {
				log = slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
			}
			target, err := conformance.Program(e.Path, log)
			if err != nil {
				return err
			}
			o := conformance.Options{Config: []byte(config)}
			if c.output == table {
				o.OnResult = c.tellResult
			}
			report := conformance.Run(cmd.Context(), target, o)
			if junit != "" {
				if err := writeFile(junit, report.WriteJUnit); err != nil {
					return err
				}
			}
			if err := c.print(report, func() string { return checkSummary(report) }); err != nil {
				return err
			}
			if !report.Conforms() {
				return errTold
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "the plugin's configuration, an object in JSON; default: none")
	cmd.Flags().StringVar(&junit, "junit", "", "write a report for CI systems to this `file`")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show what the plugin logs")
	completeBy(cmd, "config", noCompletion)
	return cmd
}

// tellResult prints a result as it comes.
func (c *cli) tellResult(r conformance.Result) {
	mark := map[conformance.Outcome]string{conformance.Passed: "ok     ", conformance.Failed: "FAILED ", conformance.Skipped: "skipped"}[r.Outcome]
	line := fmt.Sprintf("%s  %s (%s)\n", mark, r.Name, time.Duration(r.Seconds*float64(time.Second)).Round(time.Millisecond))
	if r.Detail != "" {
		line += "         " + printable(r.Detail) + "\n"
	}
	_, _ = io.WriteString(c.stdout, line) // the summary's error tells
}

func checkSummary(r conformance.Report) string {
	verdict := "it conforms"
	switch {
	case r.Count(conformance.Failed) > 0:
		verdict = "it does not conform"
	case r.Count(conformance.Skipped) > 0:
		verdict = "what could be tried conforms"
	}
	return fmt.Sprintf("\n%d passed, %d failed, %d skipped: %s to version %d of the protocol\n",
		r.Count(conformance.Passed), r.Count(conformance.Failed), r.Count(conformance.Skipped), verdict, r.Protocol)
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return &vswitch.Error{Kind: vswitch.Invalid, Object: path, Err: err, Hint: "name a file that can be written"}
	}
	return errors.Join(write(f), f.Close())
}
