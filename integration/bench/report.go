package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// report renders the tables as Markdown.
func report(cs []*contender, levels []int, o options, s startup) string {
	var b strings.Builder
	for _, ports := range levels {
		fmt.Fprintf(&b, "| with %d ports | ADD p50 (p90) ms | x floor | x reference | DEL p50 (p90) ms | x floor | ADD/s, %d at a time | x reference |\n", ports, o.conc)
		b.WriteString("|---|---|---|---|---|---|---|---|\n")
		for _, c := range cs {
			fmt.Fprintf(&b, "| %s | %.2f (%.2f) | %.1f | %.2f | %.1f (%.1f) | %.2f | %.0f | %.2f |\n", c.name,
				c.at(ports, "add", 50), c.at(ports, "add", 90), c.over(cs, theFloor, ports, "add"), c.over(cs, reference, ports, "add"),
				c.at(ports, "del", 50), c.at(ports, "del", 90), c.over(cs, theFloor, ports, "del"),
				c.at(ports, "add/s", 50), c.over(cs, reference, ports, "add/s"))
		}
		b.WriteString("\n")
	}
	if o.stampede > 0 {
		b.WriteString(stampedeTable(cs, o.stampede))
	}
	if s.many.ports > 0 {
		b.WriteString(s.many.words(find(cs, ours)) + "\n")
	}
	b.WriteString(bars(cs, levels, o, s))
	fmt.Fprintf(&b, "\nMedians of %d containers in %d rounds; the floor is the same kernel work done through netlink in one resident process,\nthe reference is containernetworking/plugins %s with a gateway and no masquerade.\n%s.\n",
		o.n*o.rounds, o.rounds, pluginsVersion(), machine())
	return b.String()
}

// bars sets our figures beside what was promised.
func bars(cs []*contender, levels []int, o options, s startup) string {
	us, nat, by := find(cs, ours), find(cs, oursNAT), find(cs, resident)
	var b strings.Builder
	b.WriteString("| what | measured | bar |\n|---|---|---|\n")
	row := func(what string, value float64, unit string, atMost bool, bar float64) {
		word, met := "<=", value <= bar
		if !atMost {
			word, met = ">=", value >= bar
		}
		note := ""
		if !met {
			note = ", **missed**"
		}
		fmt.Fprintf(&b, "| %s | %.2f%s | %s %.2f%s%s |\n", what, value, unit, word, bar, unit, note)
	}
	row("ADD / floor", us.over(cs, theFloor, 0, "add"), "", true, 5)
	row("ADD with patchbayd / floor", by.over(cs, theFloor, 0, "add"), "", true, 4.5)
	row("ADD / reference", us.over(cs, reference, 0, "add"), "", true, 0.5)
	row("ADD with masquerade / without", nat.over(cs, ours, 0, "add"), "", true, 1.15)
	if last := levels[len(levels)-1]; last > 0 {
		row(fmt.Sprintf("ADD with %d ports / with none", last), ratio(us.at(last, "add", 50), us.at(0, "add", 50)), "", true, 1.3)
	}
	if s.many.ports > 0 {
		row(fmt.Sprintf("ADD with %d ports / with none", s.many.ports), ratio(us.at(s.many.ports, "add", 50), us.at(0, "add", 50)), "", true, 1.6)
		row(fmt.Sprintf("switch delete --force with %d ports", s.many.ports), s.many.deletion, " s", true, float64(s.many.ports)/500)
		row(fmt.Sprintf("memory of each of %d containers, namespace included", s.many.ports), s.many.perMB, " MB", true, 0.4)
	}
	row("ADD/s / reference", us.over(cs, reference, 0, "add/s"), "", false, 2.5)
	row("ADD/s with patchbayd / reference", by.over(cs, reference, 0, "add/s"), "", false, 2.5)
	row("DEL / floor", us.over(cs, theFloor, 0, "del"), "", true, 1.1)
	if n := o.stampede; n > 0 {
		row(fmt.Sprintf("%d deleted at once / reference", n), us.over(cs, reference, n, "stampede"), "", true, 0.25)
		row(fmt.Sprintf("%d deleted at once with patchbayd / reference", n), by.over(cs, reference, n, "stampede"), "", true, 0.25)
	}
	if o.stale > 0 {
		row(fmt.Sprintf("GC of %d stale attachments", o.stale), s.collected, " s", true, float64(o.stale)/200)
	}
	row("DEL with patchbayd / floor", by.over(cs, theFloor, 0, "del"), "", true, 0.25)
	row(fmt.Sprintf("patchbayd resident with %d ports", s.still.ports), s.still.residentMB, " MB", true, 60)
	row(fmt.Sprintf("patchbayd waking up, in %.0f s at rest, but for the Go runtime once a minute", s.still.seconds), float64(s.still.wakeups), "", true, 0)
	row("CNI binary", s.sizeMB, " MB", true, 12)
	row(fmt.Sprintf("VERSION (%.2f ms) / an empty static Go program (%.2f ms)", s.version, s.empty), ratio(s.version, s.empty), "", true, 2.5)
	return b.String()
}

func (c *contender) at(ports int, what string, p int) float64 {
	return percentile(c.samples[key{ports, what}], p)
}

// over is the ratio of medians to another contender's.
func (c *contender) over(cs []*contender, other string, ports int, what string) float64 {
	return ratio(c.at(ports, what, 50), find(cs, other).at(ports, what, 50))
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

func find(cs []*contender, name string) *contender {
	for _, c := range cs {
		if c.name == name {
			return c
		}
	}
	return &contender{}
}

func pluginsVersion() string {
	if v := os.Getenv("PLUGINS_VERSION"); v != "" {
		return v
	}
	return "of bin/tools"
}

// machine says on what it was measured.
func machine() string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease") // best effort, as is the next
	cpuinfo, _ := os.ReadFile("/proc/cpuinfo")
	cpu := "unknown CPU"
	for line := range strings.Lines(string(cpuinfo)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			cpu = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
			break
		}
	}
	return fmt.Sprintf("Linux %s, %s, %d cores, %s", strings.TrimSpace(string(kernel)), cpu, runtime.NumCPU(), runtime.Version())
}

// The tables stand between these lines.
const (
	beginMarker = "<!-- bench: begin, written by make bench -->"
	endMarker   = "<!-- bench: end -->"
)

// write puts text between the markers of a file, which must have them.
func write(file, text string) error {
	if file == "" {
		return nil
	}
	old, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w; give -o a file with the lines %q and %q", err, beginMarker, endMarker)
	}
	if err != nil {
		return err
	}
	head, rest, ok1 := strings.Cut(string(old), beginMarker)
	_, tail, ok2 := strings.Cut(rest, endMarker)
	if !ok1 || !ok2 {
		return fmt.Errorf("%s lacks the lines %q and %q", file, beginMarker, endMarker)
	}
	return os.WriteFile(file, []byte(head+beginMarker+"\n\n"+text+"\n"+endMarker+tail), 0o644)
}
