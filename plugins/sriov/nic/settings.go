package nic

import (
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/mortal"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Settings are what a NIC holds about one of its VFs, whoever has that.
type Settings struct {
	MAC       vswitch.MAC `json:"mac"` // zero where the VF's driver may choose
	VLAN      int         `json:"vlan,omitempty"`
	QoS       int         `json:"qos,omitempty"`
	VLANProto int         `json:"vlanProto,omitempty"` // 0 where there is no VLAN
	MinRate   int         `json:"minRate,omitempty"`   // Mbit/s; 0 for none
	MaxRate   int         `json:"maxRate,omitempty"`
	SpoofChk  bool        `json:"spoofChk"`
	Trust     bool        `json:"trust,omitempty"`
	LinkState uint32      `json:"linkState,omitempty"` // 0 is the NIC's own
}

// Settings reads what a NIC holds about its VFs, by their index.
func (h *Host) Settings(pf PF) (map[int]Settings, error) {
	if pf.Netdev == "" {
		return nil, fmt.Errorf("netdev of %s: %w", pf.Addr, fs.ErrNotExist)
	}
	link, err := h.nl.LinkByName(pf.Netdev)
	if err != nil {
		return nil, fmt.Errorf("netdev of %s: %w", pf.Addr, err)
	}
	all := map[int]Settings{}
	for _, vf := range link.Attrs().Vfs {
		s := Settings{
			VLAN: vf.Vlan, QoS: vf.Qos, MinRate: int(vf.MinTxRate), MaxRate: int(vf.MaxTxRate),
			SpoofChk: vf.Spoofchk, Trust: vf.Trust == 1, LinkState: vf.LinkState,
		}
		copy(s.MAC[:], vf.Mac)
		if vf.Vlan != 0 {
			s.VLANProto = vf.VlanProto
		}
		all[vf.ID] = s
	}
	return all, nil
}

// Change is a setting that differs from what it should be.
type change struct {
	what string
	make func(netlink.Link, int) error
}

// changes lead from what is to what should be.
func (h *Host) changes(is, should Settings) []change {
	var all []change
	add := func(differs bool, make func(netlink.Link, int) error, format string, args ...any) {
		if differs {
			all = append(all, change{fmt.Sprintf(format, args...), make})
		}
	}
	add(is.Trust != should.Trust, func(l netlink.Link, vf int) error { return h.nl.LinkSetVfTrust(l, vf, should.Trust) }, "trust %t", should.Trust)
	add(is.SpoofChk != should.SpoofChk, func(l netlink.Link, vf int) error { return h.nl.LinkSetVfSpoofchk(l, vf, should.SpoofChk) }, "spoof check %t", should.SpoofChk)
	add(is.MAC != should.MAC, func(l netlink.Link, vf int) error {
		return h.nl.LinkSetVfHardwareAddr(l, vf, net.HardwareAddr(should.MAC[:]))
	}, "MAC %s", should.MAC)
	add(is.VLAN != should.VLAN || is.QoS != should.QoS || is.VLANProto != should.VLANProto, func(l netlink.Link, vf int) error {
		proto := should.VLANProto
		if proto == 0 {
			proto = unix.ETH_P_8021Q
		}
		return h.nl.LinkSetVfVlanQosProto(l, vf, should.VLAN, should.QoS, proto)
	}, "VLAN %d", should.VLAN)
	add(is.MinRate != should.MinRate || is.MaxRate != should.MaxRate, func(l netlink.Link, vf int) error {
		return h.nl.LinkSetVfRate(l, vf, should.MinRate, should.MaxRate)
	}, "rate %d-%d Mbit/s", should.MinRate, should.MaxRate)
	add(is.LinkState != should.LinkState, func(l netlink.Link, vf int) error { return h.nl.LinkSetVfState(l, vf, should.LinkState) }, "link state %d", should.LinkState)
	return all
}

// Set has a NIC hold settings about a VF, as far as they differ from what it holds. It tries
// them all, and reads them back: a driver may accept what it does not do.
func (h *Host) Set(pf PF, index int, should Settings) error {
	all, err := h.Settings(pf)
	if err != nil {
		return err
	}
	is, there := all[index]
	if !there {
		return fmt.Errorf("VF %d of %s: %w", index, pf.Addr, fs.ErrNotExist)
	}
	link, err := h.nl.LinkByName(pf.Netdev)
	if err != nil {
		return fmt.Errorf("netdev of %s: %w", pf.Addr, err)
	}
	var failed []error
	for _, c := range h.changes(is, should) {
		mortal.Point()
		if err := c.make(link, index); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", c.what, err))
		}
	}
	if len(failed) > 0 {
		return errors.Join(failed...)
	}
	if all, err = h.Settings(pf); err != nil {
		return err
	}
	for _, c := range h.changes(all[index], should) {
		failed = append(failed, fmt.Errorf("%s was accepted, and is not in effect", c.what))
	}
	return errors.Join(failed...)
}

// VLANProto is that of the VLANs that VFs are put into.
const VLANProto = unix.ETH_P_8021Q

// NotSupported reports whether an error is a driver's that cannot do something at all.
func NotSupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPROTONOSUPPORT)
}

// ProveSpoofChk sets the spoof check that a VF has already: only so does a driver say that it
// has none.
func (h *Host) ProveSpoofChk(pf PF, index int) error {
	link, err := h.nl.LinkByName(pf.Netdev)
	if err != nil {
		return fmt.Errorf("netdev of %s: %w", pf.Addr, err)
	}
	mortal.Point()
	if err := h.nl.LinkSetVfSpoofchk(link, index, true); err != nil {
		return fmt.Errorf("spoof check: %w", err)
	}
	return nil
}
