package engine

import (
	"context"
	"slices"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Severity says how much a finding matters.
type Severity string

// The severities, the worst first.
const (
	Blocks  Severity = "blocks"  // something that is configured does not work because of it
	Warning Severity = "warning" // something may stop working, or would not if it were configured
	Note    Severity = "note"    // good to know
	Fine    Severity = "ok"
)

// Finding is what a look at the host has found.
type Finding struct {
	Severity Severity `json:"severity"`
	Check    string   `json:"check"` // a fixed word for each kind of finding
	What     string   `json:"what"`
	Why      string   `json:"why,omitempty"`  // what it means for switches
	Mend     []string `json:"mend,omitempty"` // commands, or lines with a file to put them in
}

// DoctorRequest asks for the whole diagnosis.
type DoctorRequest struct{}

// Diagnosis is what this kernel and host can and cannot do for switches.
type Diagnosis struct {
	Kernel   string    `json:"kernel"`
	Findings []Finding `json:"findings"`
}

// Blocked reports that something keeps what is configured from working.
func (d Diagnosis) Blocked() bool {
	return slices.ContainsFunc(d.Findings, func(f Finding) bool { return f.Severity == Blocks })
}

// Doctor looks at the kernel, its settings and what else runs on the host, and tells
// what each means for switches and how to mend it. It changes nothing.
func (e *Engine) Doctor(ctx context.Context, _ DoctorRequest) (Diagnosis, error) {
	x, err := e.examine(ctx)
	if err != nil {
		return Diagnosis{Findings: []Finding{}}, fault("doctor", "", err)
	}
	d := Diagnosis{Kernel: x.host.Release, Findings: x.findings()}
	rank := func(f Finding) int { return slices.Index([]Severity{Blocks, Warning, Note, Fine}, f.Severity) }
	slices.SortStableFunc(d.Findings, func(a, b Finding) int { return rank(a) - rank(b) })
	return d, nil
}

// examination is all that a diagnosis is made from.
type examination struct {
	host    kernel.Host
	caps    kernel.Capabilities
	netdevs []kernel.Netdev
	records []store.SwitchRecord
	ports   map[string]int // guests by switch
	vms     bool           // some of them are VMs
	teams   []store.TeamRecord
	queues  []rootQueue
	// resident tells that this is patchbayd.
	resident bool
}

func (e *Engine) examine(ctx context.Context) (x examination, err error) {
	if x.caps, err = e.kernel.Capabilities(ctx); err != nil { // not those of the boot: a module may have been loaded
		return x, err
	}
	if x.host, err = e.kernel.Host(ctx); err != nil {
		return x, err
	}
	if x.netdevs, err = e.kernel.Netdevs(ctx); err != nil {
		return x, err
	}
	if x.queues, err = e.rootQueues(ctx); err != nil {
		return x, err
	}
	x.resident = e.resident.Load() != nil
	x.ports = make(map[string]int)
	err = e.store.View(func(tx *store.Tx) (err error) {
		if x.records, err = tx.Switches(); err != nil {
			return err
		}
		if x.teams, err = tx.Teams(); err != nil {
			return err
		}
		for _, r := range x.records {
			if x.ports[r.Name], err = tx.PortCount(r.Name); err != nil {
				return err
			}
		}
		x.vms, err = tx.HasDomains()
		return err
	})
	return x, err
}

// findings is the diagnosis: it decides from x alone.
func (x examination) findings() []Finding {
	var all []Finding
	for _, check := range []func() []Finding{
		x.kernelVersion, x.capabilities, x.ipv6,
		x.forwardedFrames, x.forwardedPackets, x.legacyTables, x.firewalld,
		x.forwarding, x.routerAdvertisements, x.reversePath,
		x.bonding, x.strangers, x.taps, x.announcements, x.standbys, x.managers, x.neighbours, x.backlog, x.connections, x.rootQueues,
	} {
		all = append(all, check()...)
	}
	return all
}

// routed are the switches whose guests go through the host.
func (x examination) routed() (names []string) {
	for _, r := range x.records {
		if len(r.Gateway) > 0 {
			names = append(names, r.Name)
		}
	}
	return names
}

// affected are the switches that a predicate holds for.
func (x examination) affected(is func(store.SwitchRecord) bool) (names []string) {
	for _, r := range x.records {
		if is(r) {
			names = append(names, r.Name)
		}
	}
	return names
}

// blocksIf is Blocks where there is a switch that it keeps from working.
func blocksIf(switches []string) Severity {
	if len(switches) > 0 {
		return Blocks
	}
	return Warning
}

func hostPorts(records []store.SwitchRecord) (netdevs []string) {
	for _, r := range records {
		if r.HostPort() {
			netdevs = append(netdevs, vswitch.HostPortName(r.Name))
		}
	}
	return netdevs
}
