package vswitch

import "fmt"

// Reason says why a port does not have a feature, or not all of it, from a closed list. It
// is part of the interface: scripts match it in `-o json` output, and plugins report it.
type Reason string

// The reasons.
const (
	NotAsked          Reason = "NOT_ASKED"           // the policy says off
	NoUplink          Reason = "NO_UPLINK"           // the switch has no NIC that could do it
	NoProvider        Reason = "NO_PROVIDER"         // no plugin serves the NIC
	NoDaemon          Reason = "NO_DAEMON"           // patchbayd, which runs plugins, does not run
	ProviderFailed    Reason = "PROVIDER_FAILED"     // the plugin crashed, hung, or answered nonsense
	NoDriverSupport   Reason = "NO_DRIVER_SUPPORT"   // the NIC's driver cannot
	SwitchWithout     Reason = "SWITCH_WITHOUT"      // the switch was made without SR-IOV
	TeamWithoutVFLAG  Reason = "TEAM_WITHOUT_VF_LAG" // the uplink is a team whose NICs cannot share VFs
	TeamModeUnfit     Reason = "TEAM_MODE"           // the uplink is a team of a mode with which it does not work
	NoIOMMU           Reason = "NO_IOMMU"            // no IOMMU: a VM cannot be given a VF
	NoACS             Reason = "NO_ACS"              // PCIe without access control: as above
	NoBusResources    Reason = "NO_BUS_RESOURCES"    // no PCI bus number is left for VFs
	NoVFMemory        Reason = "NO_VF_MEMORY"        // the firmware left no address space for VFs
	NeedsSoftwarePath Reason = "NEEDS_SOFTWARE_PATH" // the port has a setting that only the software path gives
	NoFreeVF          Reason = "NO_FREE_VF"          // ports with more weight have them
	NoFreeFilter      Reason = "NO_FREE_FILTER"      // as above, of queues
	NoFreeSA          Reason = "NO_FREE_SA"          // the NIC holds as many SAs as it can
	LimitReached      Reason = "LIMIT_REACHED"       // the port has as many SAs or queue pairs as it may
	ModerationFixed   Reason = "MODERATION_FIXED"    // the VF's interrupt moderation cannot be set
	QueuesOfVF        Reason = "QUEUES_OF_VF"        // the port's VF has queues of its own, so no filter is spent
	AttachedWithout   Reason = "ATTACHED_WITHOUT"    // the port was attached without a VF, which it cannot get while it is
	VFOfLibvirt       Reason = "VF_OF_LIBVIRT"       // a VM gets its VF from libvirt, not from its port
	Pending           Reason = "PENDING"             // the plugin is about to be asked
	Refused           Reason = "REFUSED"             // the NIC refused, though it says it can
)

// Reasons lists them all.
func Reasons() []Reason {
	return []Reason{
		NotAsked, NoUplink, NoProvider, NoDaemon, ProviderFailed, NoDriverSupport, SwitchWithout, TeamWithoutVFLAG, TeamModeUnfit,
		NoIOMMU, NoACS, NoBusResources, NoVFMemory, NeedsSoftwarePath, NoFreeVF, NoFreeFilter, NoFreeSA, LimitReached,
		ModerationFixed, QueuesOfVF, AttachedWithout, VFOfLibvirt, Pending, Refused,
	}
}

// Words says the reason in a sentence without a full stop, and what to do about it, which
// may be "".
func (r Reason) Words() (cause, hint string) {
	switch r {
	case NotAsked:
		return "the port's policy says off", "ask for it with mode prefer or require"
	case NoUplink:
		return "the switch has no uplink", "give it one with `patchbay switch set NAME --uplink NIC`"
	case NoProvider:
		return "no plugin serves the NIC", "run `patchbay plugin list`, and install the vendor's plugin"
	case NoDaemon:
		return "patchbayd, which runs the plugins of NICs, does not run", "run `systemctl start patchbayd`, or `patchbayd`"
	case ProviderFailed:
		return "the plugin that serves the NIC failed", "run `patchbay plugin list`, and look at patchbayd's log"
	case NoDriverSupport:
		return "the NIC's driver cannot do it", "use another NIC, or mode prefer"
	case SwitchWithout:
		return "the switch was made without SR-IOV", "make the switch anew with SR-IOV; it cannot be changed"
	case TeamWithoutVFLAG:
		return "the uplink is a team whose NICs cannot share VFs", "use a single NIC, or NICs with VF LAG"
	case TeamModeUnfit:
		return "the uplink is a team of a mode with which it does not work", "use mode active-standby"
	case NoIOMMU:
		return "this machine has no IOMMU that is on", "turn VT-d or AMD-Vi on, in firmware and kernel"
	case NoACS:
		return "the NIC's slot does not keep devices apart (PCIe ACS)", "use another slot"
	case NoBusResources:
		return "no PCI bus number is left for VFs", "boot with pci=assign-busses, or turn ARI on in firmware"
	case NoVFMemory:
		return "the firmware left no address space for VFs", "turn SR-IOV and memory above 4G on in firmware"
	}
	return r.portWords()
}

// portWords is Words of the reasons that are the port's, not the uplink's.
func (r Reason) portWords() (cause, hint string) {
	switch r {
	case NeedsSoftwarePath:
		return "it needs the software path", "leave out what is named, or use mode prefer"
	case NoFreeVF:
		return "every VF of the NIC is held by a port with more weight, or for whom it cannot be taken away", "make more VFs, or give the port more weight"
	case NoFreeFilter:
		return "every queue of the NIC is held by a port with more weight", "give the port more weight"
	case NoFreeSA:
		return "the NIC holds as many SAs as it can", "lower the most SAs of other ports"
	case LimitReached:
		return "the port has as many as it may", ""
	case ModerationFixed:
		return "the interrupt moderation of the NIC's VFs cannot be set", "leave it out"
	case QueuesOfVF:
		return "the port's VF has queues of its own", ""
	case AttachedWithout:
		return "the port was attached when no VF was to be had", "attach it anew"
	case VFOfLibvirt:
		return "a VM gets its VF from libvirt", "give the VM an interface as `patchbay libvirt interface --sriov` writes it"
	case Pending:
		return "the plugin is about to be asked", "look again in a moment"
	case Refused:
		return "the NIC refused", "look at the kernel's log"
	}
	return fmt.Sprintf("reason %.64q", string(r)), ""
}
