package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/engine"
)

func (c *cli) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "What this kernel and host can and cannot do, and how to mend it",
		Long: `Look at the kernel, its settings and what else runs on this host, and tell what each
means for switches: what the kernel cannot do and how to get it, firewalls that drop
guests' packets (br_netfilter, Docker, firewalld, iptables), network managers that hold
an uplink, IPv6, forwarding, full tables. Each finding has the commands that mend it.
It changes nothing.

The exit code is 1 if something that is configured is blocked. "patchbay status" says
whether the switches themselves are as they should be.`,
		Example: `  patchbay doctor
  patchbay doctor -o json | jq -r '.findings[] | select(.severity == "blocks") | .mend[]'`,
		SuggestFor: []string{"diagnose", "troubleshoot", "checkup"},
		Args:       operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.progress("looking at the kernel and the host ...")
			d, err := c.open().Doctor(cmd.Context(), engine.DoctorRequest{})
			if err != nil {
				return err
			}
			if err := c.print(d, func() string { return doctorText(d, c.terminal) }); err != nil {
				return err
			}
			if d.Blocked() {
				return errNotReady
			}
			return nil
		},
	}
}

func doctorText(d engine.Diagnosis, t terminal) string {
	var g grid
	g.heading = []string{"SEVERITY", "CHECK", "FINDING"}
	worst := make(map[engine.Severity]int)
	for _, f := range d.Findings {
		g.add(string(f.Severity), f.Check, f.What)
		worst[f.Severity]++
	}
	var b strings.Builder
	b.WriteString(g.render(t))
	for _, f := range d.Findings {
		if f.Why == "" && len(f.Mend) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s: %s\n", severe(f.Severity, t), printable(f.What))
		if f.Why != "" {
			fmt.Fprintf(&b, "  %s\n", printable(f.Why))
		}
		for _, m := range f.Mend {
			fmt.Fprintf(&b, "    %s\n", printable(m))
		}
	}
	switch {
	case worst[engine.Blocks] > 0:
		fmt.Fprintf(&b, "\n%s\n", t.red(fmt.Sprintf("%d finding(s) block what is configured.", worst[engine.Blocks])))
	case worst[engine.Warning] > 0:
		fmt.Fprintf(&b, "\n%s\n", t.yellow("Nothing is blocked."))
	default:
		fmt.Fprintf(&b, "\n%s\n", t.green("Nothing is wrong."))
	}
	return b.String()
}

func severe(s engine.Severity, t terminal) string {
	switch s {
	case engine.Blocks:
		return t.red(string(s))
	case engine.Warning:
		return t.yellow(string(s))
	}
	return t.bold(string(s))
}
