package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func (c *cli) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Is this host ready, and what is wrong",
		Long: `Say whether a container can be attached now, how much there is, what this kernel can
do, and every problem with what to do about it. It looks and changes nothing.

Where patchbayd runs, it also lists what patchbayd has repaired lately, and what it
could not repair yet.

The exit code is 1 when the host is not ready. A problem alone does not make it so:
a kernel without VLAN filtering is ready for all that needs none.`,
		Example: `  patchbay status
  patchbay status -o json | jq .ready`,
		SuggestFor: []string{"health", "check", "info"},
		Args:       operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.open().Status(cmd.Context())
			if err != nil {
				return err
			}
			c.asRoot(&s)
			if err := c.print(s, func() string { return statusText(s, c.terminal) }); err != nil {
				return err
			}
			if !s.Ready {
				return errNotReady
			}
			return nil
		},
	}
}

// asRoot gives the problems that stem from missing rights the hint to get them.
func (c *cli) asRoot(s *engine.Status) {
	if c.root || s.Ready {
		return
	}
	for i, p := range s.Problems {
		if p.Kind == vswitch.StoreUnavailable || p.Kind == vswitch.KernelFailed {
			s.Problems[i].Message = withoutHint(p)
			s.Problems[i].Hint = "run `sudo patchbay status`"
		}
	}
}

// withoutHint is a problem's message where the hint stands on a line of its own.
func withoutHint(p engine.Problem) string { return strings.TrimSuffix(p.Message, "; "+p.Hint) }

func statusText(s engine.Status, t terminal) string {
	var b strings.Builder
	if s.Ready {
		b.WriteString(t.green("Patchbay is ready on this host.") + "\n")
	} else {
		b.WriteString(t.red("Patchbay is not ready on this host.") + "\n")
	}
	if s.Pool.Size > 0 { // or nothing is known
		b.WriteString("\n" + statusSheet(s).render(t))
	}
	if len(s.Teams) > 0 {
		b.WriteString("\n" + t.bold("Teams") + "\n" + teamGrid(s.Teams, t))
	}
	b.WriteString(offloadText(s.Offload, t))
	b.WriteString(daemonText(s.Daemon, t))
	if len(s.Problems) > 0 {
		b.WriteString("\n" + t.bold("Problems") + "\n")
	}
	for _, p := range s.Problems {
		fmt.Fprintf(&b, "  %s: %s\n", t.yellow(string(p.Kind)), printable(withoutHint(p)))
		if p.Hint != "" {
			fmt.Fprintf(&b, "    hint: %s\n", printable(p.Hint))
		}
	}
	return b.String()
}

func statusSheet(s engine.Status) *sheet {
	var t sheet
	t.add("Switches", strconv.Itoa(s.Switches))
	t.add("Ports", strconv.Itoa(s.Ports))
	if s.Daemon != nil {
		t.add("patchbayd", fmt.Sprintf("process %d, since %s", s.Daemon.PID, s.Daemon.Since.Local().Format(time.DateTime)))
	}
	t.add("MAC pool", fmt.Sprintf("%d of %d addresses in use", s.Pool.Used, s.Pool.Size))
	for _, k := range []struct {
		name string
		has  bool
	}{
		{"Kernel locks ports", s.Capabilities.PortLocked},
		{"Kernel filters VLANs", s.Capabilities.VLANFiltering},
		{"Kernel has bonding", s.Capabilities.Bonding},
		{"Kernel has bridge rules", s.Capabilities.BridgeRules},
		{"Kernel guards ports", s.Capabilities.GuardRules},
		{"Kernel resets priorities", s.Capabilities.PriorityReset},
		{"Kernel has port ACLs", s.Capabilities.ACLRules},
		{"Kernel limits bandwidth", s.Capabilities.Limits},
		{"Kernel keeps minimums", s.Capabilities.Shares},
		{"Kernel mirrors ports", s.Capabilities.Mirroring},
		{"Kernel has NAT", s.Capabilities.NAT},
		{"Kernel has member rules", s.Capabilities.MemberRules},
	} {
		word := "no"
		if k.has {
			word = "yes"
		}
		t.add(k.name, word)
	}
	return &t
}

// daemonText lists what patchbayd has repaired, and what it has not.
func daemonText(d *engine.DaemonStatus, t terminal) string {
	if d == nil {
		return ""
	}
	var b strings.Builder
	if len(d.Libvirt) > 0 {
		b.WriteString("\n" + t.bold("Libvirt") + "\n")
	}
	for _, l := range d.Libvirt {
		how := "followed, version " + l.Version
		if !l.Connected {
			how = "not followed: " + cmp.Or(l.Reason, "not tried yet")
		}
		fmt.Fprintf(&b, "  %s: %s\n", l.URI, printable(how))
		if l.Deaf != "" {
			fmt.Fprintf(&b, "    %s: %s\n", t.yellow("VFs of VMs that migrate keep their addresses"), printable(l.Deaf))
		}
	}
	if len(d.Unrepaired) > 0 {
		b.WriteString("\n" + t.bold("Not repaired") + "\n")
	}
	for _, u := range d.Unrepaired {
		fmt.Fprintf(&b, "  %s: %s\n", t.yellow(printable(u.Object)), printable(u.Reason))
		fmt.Fprintf(&b, "    since %s, tried again at %s\n", u.Since.Local().Format(time.DateTime), u.Next.Local().Format(time.TimeOnly))
		if u.Hint != "" {
			fmt.Fprintf(&b, "    hint: %s\n", printable(u.Hint))
		}
	}
	if len(d.Repairs) > 0 {
		b.WriteString("\n" + t.bold("Repaired") + "\n")
	}
	const shown = 10
	for _, r := range d.Repairs[:min(shown, len(d.Repairs))] {
		fmt.Fprintf(&b, "  %s  %s: %s\n", r.Time.Local().Format(time.DateTime), printable(r.Object), printable(strings.Join(r.What, "; ")))
	}
	if more := len(d.Repairs) - shown; more > 0 {
		fmt.Fprintf(&b, "  and %d before; -o json lists them\n", more)
	}
	return b.String()
}
