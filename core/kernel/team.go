package kernel

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file makes and changes bonds. github.com/vishvananda/netlink has a type for them
// that sends every option with every change, which a bond with members refuses.

// Words of bonds as the kernel numbers them (linux/if_bonding.h).
func bondModes() []string {
	return []string{"balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"}
}

func bondHashes() []string {
	return []string{"layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"}
}

func bondReselects() []string { return []string{"always", "better", "failure"} }

// word is the n-th of words, or its number.
func word(words []string, n uint32) string {
	if int(n) < len(words) {
		return words[n]
	}
	return fmt.Sprint(n)
}

// Numbers of linux/if_link.h that package nl lacks, and of net/bonding.h: a link that
// waits for its delay still counts as what it was.
const (
	bondSlavePrio = 9 // IFLA_BOND_SLAVE_PRIO, Linux 6.0
	bondLinkDown  = 2 // BOND_LINK_DOWN
	bondLinkBack  = 3 // BOND_LINK_BACK
)

// teamStep queues a step about a bond.
func (a *applier) teamStep(i int, s plan.Step) error {
	switch s := s.(type) {
	case plan.CreateBond:
		quiet := quietBond(s.Bond)
		quiet.AddData(uint32Attribute(unix.IFLA_GROUP, 0)) // it has an alias now
		return a.bondMessages(i, newBond(s.Bond), quiet, byName(unix.RTM_NEWLINK, 0, s.Bond.Name, upHeader()))
	case plan.SetBond:
		return a.setBond(i, s)
	case plan.SetPrimary:
		return a.setPrimary(i, s)
	case plan.DeleteBond:
		return a.deleteNetdevs(i, s.Name)
	case plan.TakeDown:
		return a.bondMessages(i, byName(unix.RTM_NEWLINK, 0, s.Name, downHeader()))
	case plan.AddMember:
		return a.addMember(i, s)
	case plan.SetMember:
		return a.bondMessages(i, setMember(s.Member))
	case plan.RemoveMember:
		return a.removeMember(i, s)
	case plan.HoldMember:
		// Two messages: a bond takes down what leaves it, and one would bring it up before.
		return a.bondMessages(i, setMaster(s.Member.Name, 0), byName(unix.RTM_NEWLINK, 0, s.Member.Name, upHeader()))
	case plan.AnnounceMACs:
		return a.outside(func() error { announceMACs(s); return nil })
	}
	return a.twinStep(i, s)
}

func downHeader() nl.IfInfomsg {
	h := *nl.NewIfInfomsg(unix.AF_UNSPEC)
	h.Change = unix.IFF_UP
	return h
}

func (a *applier) bondMessages(step int, messages ...*nl.NetlinkRequest) error {
	for _, m := range messages {
		if err := a.queue("", request{NetlinkRequest: m, step: step, explain: explainBond}); err != nil {
			return err
		}
	}
	return nil
}

// explainBond knows the errnos of a kernel without bonding and of what cannot be in a
// bond.
func explainBond(err error) error {
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return &vswitch.Error{
			Kind: vswitch.CapabilityMissing, Err: fmt.Errorf("the kernel has no bonding (CONFIG_BONDING), or the NIC cannot change its address: %w", err),
			Hint: "load it with `modprobe bonding`, or use a kernel that has it",
		}
	case isAbsent(err):
		return &vswitch.Error{Kind: vswitch.NotFound, Err: fmt.Errorf("a netdev of the team is not there: %w", err)}
	}
	return err
}

func newBond(b plan.Bond) *nl.NetlinkRequest {
	r := byName(unix.RTM_NEWLINK, create, b.Name, noHeader())
	r.AddData(macAttribute(unix.IFLA_ADDRESS, b.MAC))
	r.AddData(uint32Attribute(unix.IFLA_MTU, b.MTU))
	r.AddData(uint32Attribute(unix.IFLA_GROUP, int(vswitch.UplinkGroup))) // a mark from birth: see isOurs
	r.AddData(bondInfo(b.Options, plan.BondOptions{}))
	return r
}

// quietBond marks a bond as ours and keeps link-local addresses off it.
func quietBond(b plan.Bond) *nl.NetlinkRequest {
	r := byName(unix.RTM_NEWLINK, 0, b.Name, noHeader())
	if !b.MAC.IsZero() {
		r.AddData(macAttribute(unix.IFLA_ADDRESS, b.MAC))
	}
	r.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(b.Alias)))
	if spec := noLinkLocal(b.MTU); spec != nil {
		r.AddData(spec)
	}
	return r
}

// bondInfo has those options that differ from was: of a bond with members even the same
// mode is refused.
func bondInfo(o, was plan.BondOptions) *nl.RtAttr {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bond"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	number := func(kind, is, was int) {
		if is != was {
			data.AddRtAttr(kind, nl.Uint32Attr(uint32(is)))
		}
	}
	named := func(kind int, words []string, is, was string) {
		if n := slices.Index(words, is); is != was && n >= 0 {
			data.AddRtAttr(kind, nl.Uint8Attr(uint8(n)))
		}
	}
	named(nl.IFLA_BOND_MODE, bondModes(), o.Mode, was.Mode)
	number(nl.IFLA_BOND_MIIMON, o.Monitor, was.Monitor)
	number(nl.IFLA_BOND_UPDELAY, o.UpDelay, was.UpDelay)
	number(nl.IFLA_BOND_DOWNDELAY, o.DownDelay, was.DownDelay)
	named(nl.IFLA_BOND_PRIMARY_RESELECT, bondReselects(), o.Reselect, was.Reselect)
	named(nl.IFLA_BOND_XMIT_HASH_POLICY, bondHashes(), o.Hash, was.Hash)
	number(nl.IFLA_BOND_MIN_LINKS, o.MinLinks, was.MinLinks)
	if o.Mode == "802.3ad" && (o.Mode != was.Mode || o.LACPSlow != was.LACPSlow) {
		data.AddRtAttr(nl.IFLA_BOND_AD_LACP_RATE, switched(!o.LACPSlow))
	}
	return info
}

func (a *applier) setBond(step int, s plan.SetBond) error {
	b := s.Bond
	var messages []*nl.NetlinkRequest
	if s.Down {
		messages = append(messages, byName(unix.RTM_NEWLINK, 0, b.Name, downHeader()))
	}
	quiet := quietBond(b)
	quiet.AddData(bondInfo(b.Options, s.Was))
	return a.bondMessages(step, append(messages, quiet, byName(unix.RTM_NEWLINK, 0, b.Name, upHeader()))...)
}

// setPrimary names the preferred member by number; 0 is none.
func (a *applier) setPrimary(step int, s plan.SetPrimary) error {
	index := 0
	if s.Member != "" {
		var err error
		if index, err = a.index(step, "", s.Member); err != nil {
			return err
		}
	}
	return a.bondMessages(step, primaryMessage(s.Bond, index))
}

func primaryMessage(bond string, index int) *nl.NetlinkRequest {
	r := byName(unix.RTM_NEWLINK, 0, bond, noHeader())
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bond"))
	info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.IFLA_BOND_PRIMARY, nl.Uint32Attr(uint32(index)))
	r.AddData(info)
	return r
}

func (a *applier) addMember(step int, s plan.AddMember) error {
	bond, err := a.index(step, "", s.Bond)
	if err != nil {
		return err
	}
	messages := []*nl.NetlinkRequest{setMaster(s.Member.Name, bond)}
	if s.Member.Prio != 0 {
		messages = append(messages, setMember(s.Member))
	}
	return a.bondMessages(step, messages...)
}

func setMember(m plan.Member) *nl.NetlinkRequest {
	r := byName(unix.RTM_NEWLINK, 0, m.Name, noHeader())
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_SLAVE_KIND, nl.NonZeroTerminated("bond"))
	info.AddRtAttr(nl.IFLA_INFO_SLAVE_DATA, nil).AddRtAttr(bondSlavePrio, nl.Uint32Attr(uint32(int32(m.Prio))))
	r.AddData(info)
	return r
}

// removeMember looks first whose member the NIC is: it may be another's by now.
func (a *applier) removeMember(step int, s plan.RemoveMember) error {
	return a.outside(func() error {
		nic, err := a.host.link(s.Member.Name)
		if isAbsent(err) {
			return nil
		}
		if err != nil {
			return err
		}
		bond, err := a.host.link(s.Bond)
		if err == nil && nic.master == bond.index {
			err = a.host.do([]request{{NetlinkRequest: setMaster(s.Member.Name, 0), step: step}})
		}
		if err != nil && !isAbsent(err) {
			return err
		}
		if nic.master != 0 && nic.master != bond.index || !s.Member.Released.Up {
			return nil
		}
		return a.host.do([]request{{NetlinkRequest: byName(unix.RTM_NEWLINK, 0, s.Member.Name, upHeader()), step: step, absent: true}})
	})
}
