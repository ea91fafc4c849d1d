package vswitch

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Feature is work on a port's frames that a NIC may do instead of the host.
type Feature string

// The features.
const (
	VMQ   Feature = "vmq"   // a hardware queue of the port's own
	SRIOV Feature = "sriov" // a virtual function (VF) of the NIC instead of the switch's software path
	IPsec Feature = "ipsec" // encryption of the port's security associations (SAs)
)

// Features lists the features in the order in which they are decided and shown.
func Features() []Feature { return []Feature{SRIOV, VMQ, IPsec} }

// OffloadMode says how much a port wants a feature.
type OffloadMode string

// The modes. The zero value is the feature's default.
const (
	OffloadRequire OffloadMode = "require" // an error where it cannot be had
	OffloadPrefer  OffloadMode = "prefer"  // in software where it cannot be had, and the status says why
	OffloadOff     OffloadMode = "off"     // in software
)

// OffloadModes lists the modes in the order in which help texts name them.
func OffloadModes() []OffloadMode { return []OffloadMode{OffloadRequire, OffloadPrefer, OffloadOff} }

// Moderation is how a VF gathers events into interrupts. PowerShell twin:
// -IovInterruptModeration.
type Moderation string

// The moderations; the zero value is ModerationDefault.
const (
	ModerationDefault  Moderation = "default" // the NIC's own
	ModerationAdaptive Moderation = "adaptive"
	ModerationOff      Moderation = "off"
	ModerationLow      Moderation = "low"
	ModerationMedium   Moderation = "medium"
	ModerationHigh     Moderation = "high"
)

// Moderations lists them, the default first.
func Moderations() []Moderation {
	return []Moderation{ModerationDefault, ModerationAdaptive, ModerationOff, ModerationLow, ModerationMedium, ModerationHigh}
}

// Limits and defaults, those of Hyper-V. The greatest numbers of queue pairs and SAs are
// what its 32-bit fields hold.
const (
	DefaultWeight     = 100
	DefaultSAs        = 512
	MaxSAs            = 1<<32 - 1
	MaxQueuePairs     = 1<<32 - 1
	DefaultQueuePairs = 1
)

// OffloadPolicy is what a port wants of the switch's uplink. The zero value is a fresh
// Hyper-V adapter's: VMQ preferred with weight 100, SR-IOV off, and IPsec preferred for up
// to 512 SAs.
type OffloadPolicy struct {
	VMQ   VMQPolicy   `json:"vmq,omitzero"`
	SRIOV SRIOVPolicy `json:"sriov,omitzero"`
	IPsec IPsecPolicy `json:"ipsec,omitzero"`
}

// VMQPolicy is whether a port wants a queue of its own.
type VMQPolicy struct {
	Mode OffloadMode `json:"mode,omitempty"`
	// Weight is the rank where queues are fewer than ports, 1-100, by default 100; 0 is off.
	// PowerShell twin: -VmqWeight.
	Weight Number `json:"weight,omitzero"`
}

// SRIOVPolicy is whether a port wants a VF, and what kind of.
type SRIOVPolicy struct {
	Mode OffloadMode `json:"mode,omitempty"`
	// Weight is the rank where VFs are fewer than ports, 1-100; 0 is off. Without a mode and
	// a weight SR-IOV is off, with a mode alone the weight is 100. PowerShell twin: -IovWeight.
	Weight Number `json:"weight,omitzero"`
	// QueuePairs is how many the VF should have, by default 1; it gets what its NIC has.
	// PowerShell twin: -IovQueuePairsRequested.
	QueuePairs Number     `json:"queuePairs,omitzero"`
	Moderation Moderation `json:"interruptModeration,omitempty"`
	// Failover gives a container a software path beside the VF, in a bond of the two, so that
	// it goes on where the VF is lost. It is settled when the container is attached.
	Failover bool `json:"failover,omitempty"`
}

// off reports that no VF is wanted.
func (p SRIOVPolicy) off() bool { return OffloadPolicy{SRIOV: p}.Wish(SRIOV).Mode == OffloadOff }

// IPsecPolicy is whether the NIC may encrypt for a port.
type IPsecPolicy struct {
	Mode OffloadMode `json:"mode,omitempty"`
	// MaxSAs is how many SAs of the port the NIC may hold, by default 512; 0 is off. Fewer
	// than it holds already takes none away, and adds none.
	// PowerShell twin: -IPsecOffloadMaximumSecurityAssociation.
	MaxSAs Number `json:"maxSAs,omitzero"`
}

// Wish is what a port wants of one feature, with defaults filled in.
type Wish struct {
	Mode OffloadMode
	// Amount is the weight, and of IPsec the most SAs; 0 if and only if Mode is off.
	Amount int
}

// Wish is what the policy says of a feature.
func (p OffloadPolicy) Wish(f Feature) Wish {
	switch f {
	case VMQ:
		return wish(p.VMQ.Mode, p.VMQ.Weight, Wish{OffloadPrefer, DefaultWeight})
	case SRIOV:
		return wish(p.SRIOV.Mode, p.SRIOV.Weight, Wish{OffloadOff, DefaultWeight})
	case IPsec:
		return wish(p.IPsec.Mode, p.IPsec.MaxSAs, Wish{OffloadPrefer, DefaultSAs})
	}
	return Wish{Mode: OffloadOff}
}

// wish fills in what was left out. A number alone is a wish: 0 for off, more for prefer.
func wish(mode OffloadMode, amount Number, usual Wish) Wish {
	if mode == "" {
		mode = usual.Mode
		if amount.Given() {
			mode = OffloadPrefer
		}
	}
	w := Wish{mode, amount.Or(usual.Amount)}
	if w.Mode == OffloadOff || w.Amount <= 0 {
		return Wish{Mode: OffloadOff}
	}
	return w
}

// Validate reports every problem of the policy, each an Error.
func (p OffloadPolicy) Validate() error {
	var found problems
	validateWish(&found, "vmq", p.VMQ.Mode, amount{"weight", p.VMQ.Weight, MaxWeight})
	validateWish(&found, "sriov", p.SRIOV.Mode, amount{"weight", p.SRIOV.Weight, MaxWeight})
	validateWish(&found, "ipsec", p.IPsec.Mode, amount{"maxSAs", p.IPsec.MaxSAs, MaxSAs})
	p.SRIOV.validateVF(&found)
	return found.join()
}

type amount struct {
	key  string
	n    Number
	most int
}

func validateWish(found *problems, feature string, mode OffloadMode, a amount) {
	field := feature + "." + a.key
	n := a.n.Or(1)
	switch {
	case mode != "" && !slices.Contains(OffloadModes(), mode):
		found.found(Invalid, feature+".mode", "%.32q is none of %s", mode, joinWords(OffloadModes())).in(feature + ".mode")
	case n < 0 || n > a.most:
		found.found(Range, field, "%d is outside 0-%d; 0 is off", n, a.most).in(field)
	case mode == OffloadOff && a.n.Given() && n > 0:
		found.found(Conflict, field, "%d for what is off; leave one of the two out", n).in(field)
	case (mode == OffloadPrefer || mode == OffloadRequire) && n == 0:
		found.found(Conflict, field, "0 is off, and the mode is %s; leave one of the two out", mode).in(field)
	}
}

func (p SRIOVPolicy) validateVF(found *problems) {
	off := p.off()
	if n := p.QueuePairs.Or(DefaultQueuePairs); n < 1 || n > MaxQueuePairs {
		found.found(Range, "sriov.queuePairs", "%d is outside 1-%d", n, MaxQueuePairs).in("sriov.queuePairs")
	}
	if p.Moderation != "" && !slices.Contains(Moderations(), p.Moderation) {
		found.found(Invalid, "sriov.interruptModeration", "%.32q is none of %s", p.Moderation, joinWords(Moderations())).in("sriov.interruptModeration")
	}
	if off && p.QueuePairs.Given() {
		found.found(Conflict, "sriov.queuePairs", "queue pairs of a VF, and SR-IOV is off; give a weight too").in("sriov.queuePairs")
	}
	if off && p.Failover {
		found.found(Conflict, "sriov.failover", "a standby beside a VF, and SR-IOV is off; give a weight too").in("sriov.failover")
	}
	if off && p.Moderation != "" {
		found.found(Conflict, "sriov.interruptModeration", "moderation of a VF, and SR-IOV is off; give a weight too").in("sriov.interruptModeration")
	}
}

func joinWords[T ~string](words []T) string {
	plain := make([]string, len(words))
	for i, w := range words {
		plain[i] = string(w)
	}
	return strings.Join(plain, ", ")
}

// String is what the port wants, all of it: "sriov off, vmq prefer weight 100, ipsec prefer
// up to 512 SAs".
func (p OffloadPolicy) String() string {
	words := make([]string, 0, len(Features()))
	for _, f := range Features() {
		words = append(words, p.wishWords(f))
	}
	return strings.Join(words, ", ")
}

func (p OffloadPolicy) wishWords(f Feature) string {
	w := p.Wish(f)
	text := string(f) + " " + string(w.Mode)
	switch {
	case w.Mode == OffloadOff:
		return text
	case f == IPsec:
		return text + " up to " + strconv.Itoa(w.Amount) + " SAs"
	}
	text += " weight " + strconv.Itoa(w.Amount)
	if f != SRIOV {
		return text
	}
	if p.SRIOV.QueuePairs.Given() {
		text += fmt.Sprintf(" with %d queue pairs", p.SRIOV.QueuePairs.Or(DefaultQueuePairs))
	}
	if p.SRIOV.Moderation != "" {
		text += " moderation " + string(p.SRIOV.Moderation)
	}
	if p.SRIOV.Failover {
		text += " with failover"
	}
	return text
}

// SoftwareOnly names what of the port only the software path gives, by its keys: none of it
// is kept on a VF, whose frames do not pass the switch's bridge.
func SoftwareOnly(p Port) []string {
	var keys []string
	for _, need := range []struct {
		key    string
		needed bool
	}{
		{"acl", len(p.Policy.ACL) > 0},
		{"addressGuard", p.Policy.AddressGuard},
		{"bandwidth.in", p.Policy.Bandwidth.In != Limit{}},
		{"bandwidth.out.burst", p.Policy.Bandwidth.Out.Burst != 0},
		{"dhcpGuard", p.Policy.DHCPGuard},
		{"isolated", p.Isolated},
		{"mirror", p.Policy.Mirror != MirrorNone},
		{"routerGuard", p.Policy.RouterGuard},
		{"stormLimit", p.Policy.StormLimit > 0},
		{"vlan " + string(p.VLAN.Mode), p.VLAN.Mode == Trunk || p.VLAN.Private()},
	} {
		if need.needed {
			keys = append(keys, need.key)
		}
	}
	return keys
}
