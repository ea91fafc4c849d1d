package engine

import "fmt"

// This file judges what VMs need of the host.

// strangers are netdevs in switches that are nobody's ports.
func (x examination) strangers() (all []Finding) {
	for _, n := range strangersAmong(x.netdevs) {
		all = append(all, Finding{
			Severity: Warning, Check: "strangers", What: fmt.Sprintf("netdev %s is in bridge %s and no port of its switch", n.Name, n.Master),
			Why: "its frames are dropped, both ways", Mend: []string{strangerHint(n)},
		})
	}
	return all
}

// taps that are plugged in while a VM runs wait for patchbayd, shut.
func (x examination) taps() (all []Finding) {
	if !x.vms {
		return nil
	}
	if !x.resident {
		all = append(all, Finding{
			Severity: Warning, Check: "hot-plug", What: "patchbayd does not run: nobody binds the tap of a NIC that is plugged into a running VM",
			Why: "libvirt calls no hook then, and the tap's frames are dropped until it is bound", Mend: []string{startDaemon},
		})
	}
	if !x.caps.BridgeRules {
		all = append(all, Finding{
			Severity: Warning, Check: "hot-plug", What: "the kernel has no nftables for bridges: the tap of a VM is open until it is bound",
			Why: "for a moment a VM may send what its port forbids", Mend: []string{"use a kernel with CONFIG_NF_TABLES_BRIDGE"},
		})
	} else if !x.caps.VLANFiltering {
		all = append(all, Finding{
			Severity: Note, Check: "hot-plug", What: "the kernel has no VLAN filtering: what a tap sends before it is bound is dropped, but the bridge learns from it",
			Why: "until it is bound, frames for addresses beyond the uplink that it pretends to have may be lost", Mend: []string{"use a kernel with CONFIG_BRIDGE_VLAN_FILTERING"},
		})
	}
	return all
}
