package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/cmd/patchbay/internal/whiteboard"
	"github.com/patchbay-net/patchbay/core/engine"
)

func (c *cli) portStatsCommand() *cobra.Command {
	var req engine.PortStatsRequest
	cmd := &cobra.Command{
		Use:   "stats [PORT]",
		Short: "Show what ports have sent and received, and what guards dropped",
		Long: `Show what one port has counted, or all ports, or those of a switch. IN is what the owner
receives and OUT what it sends: the switch end of the port counts the one as sent and
the other as received. DROPPED and ERRORS are those of the netdev, both ways. GUARDED
are the frames of OUT that the port's guards have dropped; with PORT, for each guard.
Among them are frames from another MAC address than the port's (macSpoofing), unless the
port may spoof; they are counted for four hours from the first one of an address.

Of a mirror source it tells, with PORT, how many copies of its frames were sent to mirror
destinations, one to each, and how many a destination that is down has lost.

While the switch's uplink is shared by minimums of bandwidth, UPLINK are the packets that
have left by it for the port, at all members of a team, and LOST those that did not find
room; with PORT, also how many went beyond the minimum. Ports without a minimum share
one class, the default flow: a "*" marks its counters, which are of all of them together.

A port counts from when its switch end was made: that is when its owner was attached,
or when somebody had deleted the netdev and it was made anew; UPLINK from when the port was
promised something of an uplink that did not change since. What a guard has dropped
counts from when it was set, or its limit was changed, or its rules were made anew
after somebody had flushed them. A reboot resets all. Of a port with a VF nothing is
counted: what it sends does not pass the switch, and its owner's netdev has the counters.

Hyper-V twin: Get-NetAdapterStatistics.`,
		Example: `  patchbay port stats
  patchbay port stats --switch lan
  patchbay port stats web-1 -o json`,
		SuggestFor:        []string{"statistics", "counters", "top"},
		Args:              atMost("PORT"),
		ValidArgsFunction: c.completePorts,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				req.Port = args[0]
			}
			stats, err := c.open().PortStats(cmd.Context(), req)
			if err != nil {
				return err
			}
			if req.Port != "" {
				return c.print(stats[0], func() string { return statsSheet(stats[0]).render(c.terminal) })
			}
			return c.print(stats, func() string { return statsGrid(stats, req.Switch, c.terminal) })
		},
	}
	cmd.Flags().StringVar(&req.Switch, "switch", "", "only the ports of this switch")
	completeBy(cmd, "switch", c.switchNames)
	return cmd
}

func statsGrid(stats []engine.PortStats, sw string, t terminal) string {
	if len(stats) == 0 {
		return portGrid(nil, sw, t)
	}
	g := grid{heading: []string{"PORT", "SWITCH", "OWNER", "IN", "IN-BYTES", "OUT", "OUT-BYTES", "DROPPED", "ERRORS", "GUARDED"}}
	shared := slices.ContainsFunc(stats, func(s engine.PortStats) bool { return s.Uplink != nil })
	if shared {
		g.heading = append(g.heading, "UPLINK", "LOST")
	}
	for _, s := range stats {
		cells := []string{s.ID, s.Switch, whiteboard.OwnerName(s.Owner)}
		if s.Gone || s.VF != "" {
			g.add(append(cells, make([]string, len(g.heading)-len(cells))...)...)
			continue
		}
		for _, n := range []uint64{
			s.In.Packets, s.In.Bytes, s.Out.Packets, s.Out.Bytes, s.In.Dropped + s.Out.Dropped, s.In.Errors + s.Out.Errors,
		} {
			cells = append(cells, strconv.FormatUint(n, 10))
		}
		cells = append(cells, guardedCell(s.Guarded))
		if shared {
			cells = append(cells, uplinkCells(s.Uplink)...)
		}
		g.add(cells...)
	}
	return g.render(t)
}

// guardedCell is empty for a port without guards.
func guardedCell(by map[string]uint64) string {
	if len(by) == 0 {
		return ""
	}
	sum := uint64(0)
	for _, n := range by {
		sum += n
	}
	return strconv.FormatUint(sum, 10)
}

// uplinkCells are empty for a port of a switch whose uplink nobody has a part of.
func uplinkCells(u *engine.UplinkTraffic) []string {
	if u == nil {
		return []string{"", ""}
	}
	ofAll := ""
	if u.DefaultFlow {
		ofAll = "*"
	}
	return []string{strconv.FormatUint(u.Packets, 10) + ofAll, strconv.FormatUint(u.Dropped, 10) + ofAll}
}

func statsSheet(s engine.PortStats) *sheet {
	var sh sheet
	sh.add("Port", s.ID)
	sh.add("Switch", s.Switch)
	sh.add("Owner", s.Owner.String())
	if s.Gone {
		sh.add("Counters", "none: netdev "+s.Netdev+" is not there")
		return &sh
	}
	if s.VF != "" {
		sh.add("Counters", "none: its frames pass by VF "+s.VF+" and not the switch; its owner's netdev counts them")
		return &sh
	}
	sh.add("In, to the owner", trafficWords(s.In)+"; tx of "+s.Netdev)
	sh.add("Out, from the owner", trafficWords(s.Out)+"; rx of "+s.Netdev)
	if u := s.Uplink; u != nil {
		sh.add("By the uplink", uplinkWords(*u))
	}
	if m := s.Mirrored; m != nil {
		sh.add("Mirrored", fmt.Sprintf("%s, %d lost", copies(m.Copies), m.Lost))
	}
	if len(s.Guarded) == 0 {
		return &sh
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(s.Guarded)) {
		words = append(words, fmt.Sprintf("%s %s", name, count(s.Guarded[name], "frame")))
	}
	sh.each("Dropped by guards", words)
	return &sh
}

func uplinkWords(u engine.UplinkTraffic) string {
	words := fmt.Sprintf("%s, %s, %d dropped, %d beyond the minimum, %s waiting",
		count(u.Packets, "packet"), count(u.Bytes, "byte"), u.Dropped, u.Borrowed, count(u.Waiting, "byte"))
	if u.DefaultFlow {
		return words + "; of all ports without a minimum together"
	}
	return words
}

func trafficWords(t engine.Traffic) string {
	return strings.Join([]string{
		count(t.Packets, "packet"), count(t.Bytes, "byte"), fmt.Sprintf("%d dropped", t.Dropped), count(t.Errors, "error"),
	}, ", ")
}

func copies(n uint64) string {
	if n == 1 {
		return "1 copy"
	}
	return fmt.Sprintf("%d copies", n)
}

func count(n uint64, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}
