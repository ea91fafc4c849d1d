package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
)

// maxPending bounds the requests that travel together: the answers wait in the
// socket's buffer.
const maxPending = 128

// hostStep queues a step of what the host has on a netdev.
func (a *applier) hostStep(i int, s plan.Step) error {
	switch s := s.(type) {
	case plan.SetSettings:
		return a.setSettings(i, s)
	case plan.CarryItem:
		return a.carry(i, s)
	case plan.DropItem:
		return a.drop(i, s)
	case plan.Announce:
		return a.outside(func() error { announce(s); return nil })
	}
	return fmt.Errorf("step %T is unknown to this kernel", s)
}

func (a *applier) carry(step int, s plan.CarryItem) error {
	index, err := a.index(step, "", s.Netdev)
	if err != nil {
		return err
	}
	if a.made == nil {
		a.made = make(map[int][]netip.Addr)
	}
	a.made[index] = append(a.made[index], newIPv6(s.Item)...)
	for _, m := range carryMessages(s.Item, s.Netdev, index) {
		r := request{NetlinkRequest: m, step: step, explain: func(err error) error {
			if errors.Is(err, unix.EEXIST) {
				return nil
			}
			return err
		}}
		if err := a.queue("", r); err != nil {
			return err
		}
	}
	return nil
}

// drop waits for the answers to what has been made, before it breaks anything.
func (a *applier) drop(step int, s plan.DropItem) error {
	if err := a.settle(); err != nil {
		return err
	}
	if s.Item.Kind == plan.ItemNexthop {
		return nil // taken over already: its number would hit the new one
	}
	index := 0
	if s.Item.Kind != plan.ItemRule { // it goes by the netdev's name, and may outlive it
		var err error
		if index, err = a.index(step, "", s.Netdev); isAbsent(err) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return a.remove(step, "", dropMessage(s.Item, s.Netdev, index))
}

// settle waits until all that has been added to netdevs works there.
func (a *applier) settle() error {
	if len(a.made) == 0 {
		return nil
	}
	if err := a.flush(); err != nil {
		return err
	}
	for index, addresses := range a.made {
		if len(addresses) > 0 {
			if err := awaitLocal(a.host, index, addresses); err != nil {
				return err
			}
		}
	}
	a.made = nil
	return nil
}

// newIPv6 is the address that an item is, if the kernel takes its time with it.
func newIPv6(i plan.Item) []netip.Addr {
	if i.Kind != plan.ItemAddress || i.Prefix.Addr().Is4() {
		return nil
	}
	return []netip.Addr{i.Prefix.Addr()}
}

// rawMessage is a request whose payload is given.
type rawMessage []byte

func (m rawMessage) Len() int          { return len(m) }
func (m rawMessage) Serialize() []byte { return m }

func raw(kind, flags int, payload []byte) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(kind, flags|unix.NLM_F_ACK)
	r.AddData(rawMessage(payload))
	return r
}

const replace = unix.NLM_F_CREATE | unix.NLM_F_REPLACE

// carryMessages are the requests that add an item to a netdev.
func carryMessages(i plan.Item, netdev string, index int) []*nl.NetlinkRequest {
	m := retarget(i, netdev, index)
	switch i.Kind {
	case plan.ItemAddress:
		if i.Prefix.Addr().Is4() {
			return []*nl.NetlinkRequest{raw(unix.RTM_NEWADDR, replace, m)}
		}
		return carryIPv6(m)
	case plan.ItemNeighbour:
		return []*nl.NetlinkRequest{raw(unix.RTM_NEWNEIGH, replace, m)}
	case plan.ItemNexthop:
		return []*nl.NetlinkRequest{raw(unix.RTM_NEWNEXTHOP, replace, m)}
	case plan.ItemRule:
		return []*nl.NetlinkRequest{raw(unix.RTM_NEWRULE, create, m)}
	}
	if i.Advertised {
		m = besideAdvertised(m)
	}
	if i.Shared {
		return []*nl.NetlinkRequest{raw(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, m)}
	}
	return []*nl.NetlinkRequest{raw(unix.RTM_NEWROUTE, replace, m)}
}

// carryIPv6 adds an address without the detection of duplicates, which would find the
// netdev that it comes from, and then takes the flag back that said so.
func carryIPv6(m []byte) []*nl.NetlinkRequest {
	if len(m) < unix.SizeofIfAddrmsg {
		return []*nl.NetlinkRequest{raw(unix.RTM_NEWADDR, replace, m)} // the kernel says what it thinks of it
	}
	all := parts(m, unix.SizeofIfAddrmsg)
	flags := addressFlags(m, all)
	all = without(all, unix.IFA_FLAGS)
	with := func(flags uint32) *nl.NetlinkRequest {
		b := message(m[:unix.SizeofIfAddrmsg], append(slices.Clone(all), part{unix.IFA_FLAGS, nl.Uint32Attr(flags)}))
		b[2] = uint8(flags)
		return raw(unix.RTM_NEWADDR, replace, b)
	}
	if flags&unix.IFA_F_DADFAILED != 0 {
		return []*nl.NetlinkRequest{with(flags)}
	}
	quiet := with(flags | unix.IFA_F_NODAD)
	if flags&unix.IFA_F_NODAD != 0 {
		return []*nl.NetlinkRequest{quiet}
	}
	return []*nl.NetlinkRequest{quiet, with(flags)}
}

// dropMessage is the request that removes an item from a netdev.
func dropMessage(i plan.Item, netdev string, index int) *nl.NetlinkRequest {
	m := retarget(i, netdev, index)
	switch i.Kind {
	case plan.ItemAddress:
		return raw(unix.RTM_DELADDR, 0, m)
	case plan.ItemNeighbour:
		return raw(unix.RTM_DELNEIGH, 0, m)
	case plan.ItemRule:
		return raw(unix.RTM_DELRULE, 0, m)
	}
	return raw(unix.RTM_DELROUTE, 0, m)
}

// retarget is an item's message with the number and the name of a netdev.
func retarget(i plan.Item, netdev string, index int) []byte {
	m := slices.Clone(i.Message)
	at := nl.Uint32Attr(uint32(index))
	switch i.Kind {
	case plan.ItemAddress, plan.ItemNeighbour:
		if len(m) < unix.SizeofIfAddrmsg {
			return m
		}
		copy(m[4:], at)
		if i.Kind == plan.ItemAddress {
			m = relabel(m, i.Dev, netdev)
		}
	case plan.ItemNexthop:
		m = eachPart(m, sizeofNhMsg, func(a *part) {
			if a.kind == unix.NHA_OIF {
				a.value = at
			}
		})
	case plan.ItemRule:
		m = eachPart(m, unix.SizeofRtMsg, func(a *part) {
			if (a.kind == fraIifName || a.kind == fraOifName) && text(a.value) == anyName {
				a.value = nl.ZeroTerminated(netdev)
			}
		})
	default:
		m = eachPart(m, unix.SizeofRtMsg, func(a *part) {
			switch a.kind {
			case unix.RTA_OIF:
				a.value = at
			case unix.RTA_MULTIPATH:
				eachHop(a.value, func(hop []byte) {
					if number32(hop[4:]) == 0 {
						copy(hop[4:8], at)
					}
				})
			}
		})
	}
	return m
}

func eachPart(m []byte, header int, change func(*part)) []byte {
	if len(m) < header {
		return m
	}
	all := parts(m, header)
	for n := range all {
		change(&all[n])
	}
	return message(m[:header], all)
}

// relabel gives a label that begins with the name of the old netdev that of the new
// one, if there is room; the kernel takes any.
func relabel(m []byte, from, to string) []byte {
	return eachPart(m, unix.SizeofIfAddrmsg, func(a *part) {
		if a.kind != unix.IFA_LABEL {
			return
		}
		if rest, ok := strings.CutPrefix(text(a.value), from+":"); ok && len(to)+1+len(rest) < unix.IFNAMSIZ {
			a.value = nl.ZeroTerminated(to + ":" + rest)
		}
	})
}
