package engine

import (
	"context"
	"errors"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// PortStatsRequest asks for what ports have counted: one that is named as in Port, those
// of a switch, or all.
type PortStatsRequest struct {
	Port   string `json:"port,omitempty"`
	Switch string `json:"switch,omitempty"`
}

// PortStats are what one port has counted. In and Out are the owner's view: In is what the
// switch sends to it, Out what it sends.
type PortStats struct {
	ID     string        `json:"id"`
	Switch string        `json:"switch"`
	Owner  vswitch.Owner `json:"owner"`
	Netdev string        `json:"netdev"` // the switch end, which counts from when it was made
	// VF is the port's VF, if it has one. Its frames pass the NIC alone, which does not tell
	// Patchbay of them: nothing is counted.
	VF string `json:"vf,omitempty"`
	// Gone says that the switch end is not there, so that nothing is known.
	Gone bool    `json:"gone,omitempty"`
	In   Traffic `json:"in"`
	Out  Traffic `json:"out"`
	// Guarded are the frames of Out that guards have dropped, by the name of the guard: an
	// entry for each guard that the port has, "macSpoofing" for frames from another address than
	// the port's, where the kernel can count them.
	Guarded map[string]uint64 `json:"guarded,omitempty"`
	// Uplink is what has left by the switch's uplink while that is shared by minimums of
	// bandwidth; nil otherwise.
	Uplink *UplinkTraffic `json:"uplink,omitempty"`
	// Mirrored are the copies of the port's frames, if it is a mirror source.
	Mirrored *kernel.MirrorCounters `json:"mirrored,omitempty"`
}

// Traffic is what went one way.
type Traffic struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	Dropped uint64 `json:"dropped"` // by the netdev: not by guards, nor by the switch
	Errors  uint64 `json:"errors"`
}

// PortStats returns what ports have counted, in the order of Ports. The kernel is asked
// once for all of them. PowerShell twins: Get-NetAdapterStatistics, Measure-VM.
func (e *Engine) PortStats(ctx context.Context, req PortStatsRequest) ([]PortStats, error) {
	ports, err := e.portsAsked(ctx, req)
	if err != nil {
		return nil, fault("port stats", req.object(), err)
	}
	counted, err := e.kernel.PortCounters(ctx)
	if err != nil {
		return nil, fault("port stats", req.object(), err)
	}
	caps, err := e.capabilities(ctx)
	if err != nil {
		return nil, fault("port stats", req.object(), err)
	}
	classes, err := e.classCounters(ctx, ports)
	if err != nil {
		return nil, fault("port stats", req.object(), err)
	}
	copied, err := e.kernel.MirrorCounters(ctx, mirrorSources(ports)...)
	if err != nil {
		return nil, fault("port stats", req.object(), err)
	}
	all := make([]PortStats, 0, len(ports))
	for _, p := range ports {
		c, there := counted[p.Netdev]
		sum := countedSoFar(p, c)
		all = append(all, PortStats{
			ID: p.ID, Switch: p.Switch, Owner: p.Owner, Netdev: p.Netdev, VF: p.VF, Gone: !there && p.VF == "",
			In:      Traffic{Packets: sum.InPackets, Bytes: sum.InBytes, Dropped: c.TxDropped, Errors: c.TxErrors},
			Out:     Traffic{Packets: sum.OutPackets, Bytes: sum.OutBytes, Dropped: c.RxDropped, Errors: c.RxErrors},
			Guarded: guardedBy(p, c, caps), Uplink: uplinkTraffic(p, classes[p.Switch]),
		})
		if copies, is := copied[p.Netdev]; is {
			all[len(all)-1].Mirrored = &copies
		}
	}
	return all, nil
}

// mirrorSources are the netdevs of those ports that are.
func mirrorSources(ports []vswitch.Port) (netdevs []string) {
	for _, p := range ports {
		if p.Policy.Mirror == vswitch.MirrorSource && p.Plugged() && p.VF == "" {
			netdevs = append(netdevs, p.Netdev)
		}
	}
	return netdevs
}

// countedSoFar is what a port has counted here and, of a VM, on the hosts that it came from.
func countedSoFar(p vswitch.Port, c kernel.PortCounters) vswitch.VMCounts {
	was := p.VM.Before
	return vswitch.VMCounts{
		InPackets: was.InPackets + c.TxPackets, InBytes: was.InBytes + c.TxBytes,
		OutPackets: was.OutPackets + c.RxPackets, OutBytes: was.OutBytes + c.RxBytes,
	}
}

func (r PortStatsRequest) object() string {
	switch {
	case r.Port != "":
		return "port " + r.Port
	case r.Switch != "":
		return "switch " + r.Switch
	}
	return ""
}

func (e *Engine) portsAsked(ctx context.Context, req PortStatsRequest) ([]vswitch.Port, error) {
	if req.Port == "" {
		return e.Ports(ctx, req.Switch)
	}
	p, err := e.findPort(req.Port)
	if err == nil && req.Switch != "" && p.Switch != req.Switch {
		err = &vswitch.Error{Kind: vswitch.NotFound, Object: "switch " + req.Switch, Err: errors.New("it has no such port"), Hint: "the port is on switch " + p.Switch + ": leave --switch out"}
	}
	return []vswitch.Port{p}, err
}

// guardedBy names the guards as the policy does. What the bridge drops of a port that may not
// spoof is counted by rules.
func guardedBy(port vswitch.Port, c kernel.PortCounters, caps kernel.Capabilities) map[string]uint64 {
	p, d := port.Policy, c.Guards
	counted := port.VF == "" && caps.BridgeRules && caps.GuardRules // of which those take as much of the kernel
	by := make(map[string]uint64)
	for _, guard := range []struct {
		name    string
		on      bool
		dropped uint64
	}{
		{"dhcpGuard", p.DHCPGuard, d.DHCP},
		{"routerGuard", p.RouterGuard, d.Router},
		{"addressGuard", p.AddressGuard, d.Address},
		{"stormLimit", p.StormLimit > 0, d.Storm},
		{"macSpoofing", counted && !port.MACSpoofing, c.Sources.Foreign(port.MAC)},
	} {
		if guard.on {
			by[guard.name] = guard.dropped
		}
	}
	if len(by) == 0 {
		return nil // as JSON has it
	}
	return by
}
