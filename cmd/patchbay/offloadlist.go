package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/cmd/patchbay/internal/whiteboard"
	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// listOffloads lists what uplinks do for ports.
func (c *cli) listOffloads(cmd *cobra.Command, sw string) error {
	all, err := c.open().Offloads(cmd.Context(), sw)
	if err != nil {
		return err
	}
	return c.print(all, func() string { return offloadGrid(all, c.terminal) })
}

func offloadGrid(all []engine.SwitchOffload, t terminal) string {
	g := grid{heading: []string{"PORT", "SWITCH", "OWNER", "FEATURE", "REQUESTED", "EFFECTIVE", "REASON"}}
	for _, s := range all {
		for _, p := range s.Ports {
			for _, f := range p.Features {
				effective := "no"
				if f.Effective {
					effective = "yes"
				}
				g.add(p.Port, s.Switch, whiteboard.OwnerName(p.Owner), string(f.Feature), string(f.Requested), effective, string(f.Reason))
			}
		}
	}
	if len(g.rows) == 0 {
		return "There is no port.\n"
	}
	return g.render(t)
}

func offloadLines(all []vswitch.OffloadStatus) (lines []string) {
	for _, o := range all {
		lines = append(lines, offloadWords(o))
	}
	return lines
}

// offloadWords say what a port has of a feature, and why not more.
func offloadWords(o vswitch.OffloadStatus) string {
	words := fmt.Sprintf("%s %s: ", o.Feature, o.Requested)
	if o.Requested == vswitch.OffloadOff {
		return string(o.Feature) + " off"
	}
	if !o.Effective && o.SAs > 0 {
		return words + fmt.Sprintf("%s in software, %s", count(uint64(o.SAs), "SA"), reasonWords(o.OffloadDecision))
	}
	if !o.Effective {
		return words + "in software, " + reasonWords(o.OffloadDecision)
	}
	switch {
	case o.VF != nil:
		words += fmt.Sprintf("VF %d of %s", o.VF.Index, o.NIC)
		if o.VF.PCIAddr != "" {
			words += " (" + o.VF.PCIAddr + ")"
		}
	case o.Reason == vswitch.QueuesOfVF:
		return words + reasonWords(o.OffloadDecision)
	case o.Feature == vswitch.VMQ:
		words += fmt.Sprintf("queue %d of %s", o.Queue, o.NIC)
	default:
		words += fmt.Sprintf("%d of %s by %s, which may hold %d", o.SAsHeld, count(uint64(o.SAs), "SA"), o.NIC, o.Amount)
	}
	if o.Plugin != "" {
		words += ", plugin " + o.Plugin
	}
	if o.Reason != "" {
		words += "; " + reasonWords(o.OffloadDecision)
	}
	return words
}

func reasonWords(d vswitch.OffloadDecision) string {
	cause, _ := d.Reason.Words()
	if d.Detail != "" {
		cause += ": " + d.Detail
	}
	return cause
}

// totalWords say how much there is of a feature.
func totalWords(t vswitch.OffloadTotal) string {
	if t.Missing != "" {
		cause, _ := t.Missing.Words()
		return fmt.Sprintf("%s: none, %s", t.Feature, cause)
	}
	used := map[vswitch.Feature]string{vswitch.SRIOV: "VFs", vswitch.VMQ: "queues", vswitch.IPsec: "SAs"}[t.Feature] + " used"
	if t.NIC != "" {
		used += " on " + t.NIC
	}
	words := fmt.Sprintf("%s: %d of %d %s", t.Feature, t.Used, t.Capacity, used)
	if t.Capacity == vswitch.Unlimited {
		words = fmt.Sprintf("%s: %d %s, of as many as it takes", t.Feature, t.Used, used)
	}
	if t.Feature == vswitch.IPsec {
		words += fmt.Sprintf("; ports may have %d", t.Allowed)
	}
	if t.Foreign > 0 {
		words += fmt.Sprintf(", and %d are held by others than ports", t.Foreign)
	}
	return words
}

// offloadText lists what the uplinks can do; why others cannot, "switch show" tells.
func offloadText(all []engine.SwitchOffload, t terminal) string {
	var b strings.Builder
	for _, s := range all {
		for _, total := range s.Totals {
			if total.Missing != "" {
				continue
			}
			if b.Len() == 0 {
				b.WriteString("\n" + t.bold("Offloads") + "\n")
			}
			fmt.Fprintf(&b, "  %s (%s)  %s\n", printable(s.Switch), printable(s.Uplink), printable(totalWords(total)))
		}
	}
	return b.String()
}
