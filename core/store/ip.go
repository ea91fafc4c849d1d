package store

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// IPLease is a lease of an address on a switch.
type IPLease struct {
	Addr netip.Addr
	Lease
}

func (tx *Tx) ipSpace(switchName string) *space { return tx.space("ip/" + switchName) }

// LeaseIP gives port an address of the set, whose defaults are filled in. Two
// networks on a switch never get the same address. It fails with
// vswitch.IPPoolExhausted if all are held.
func (tx *Tx) LeaseIP(switchName string, set vswitch.IPRangeSet, port string) (netip.Addr, error) {
	if err := checkIPHolder(switchName, port); err != nil {
		return netip.Addr{}, err
	}
	spans := set.Spans()
	a, ok, err := tx.ipSpace(switchName).lease(ipPool(spans), port)
	if err == nil && !ok {
		err = ipExhausted(switchName, spans)
	}
	if err != nil {
		return netip.Addr{}, err
	}
	return a.ip(), nil
}

// HoldIP gives port this very address; asked again by the same port it changes
// nothing. It fails with vswitch.IPInUse.
func (tx *Tx) HoldIP(switchName string, addr netip.Addr, port string) error {
	if err := checkIPHolder(switchName, port); err != nil {
		return err
	}
	object := fmt.Sprintf("address %s on switch %s", addr, switchName)
	if !addr.IsValid() || addr.Zone() != "" {
		return &vswitch.Error{Kind: vswitch.Invalid, Object: object, Err: fmt.Errorf("not an address that can be leased")}
	}
	holder, err := tx.ipSpace(switchName).hold(ipAddress(addr.Unmap()), port, noPool)
	if err == nil && holder != "" {
		err = &vswitch.Error{
			Kind: vswitch.IPInUse, Object: object,
			Err:  fmt.Errorf("port %s has it", holder),
			Hint: fmt.Sprintf("choose another address; `patchbay port show %s` tells whose it is", holder),
		}
	}
	return err
}

// PassIP gives an address that a port of the switch holds to another one. One that nobody holds stays so.
func (tx *Tx) PassIP(switchName string, addr netip.Addr, to string) error {
	return tx.ipSpace(switchName).reassign(ipAddress(addr.Unmap()), to)
}

// IPs returns every address held on a switch, sorted.
func (tx *Tx) IPs(switchName string) ([]IPLease, error) {
	var all []IPLease
	err := tx.ipSpace(switchName).each(func(a address, rec record) error {
		if rec.held() {
			all = append(all, IPLease{a.ip(), rec.Lease})
		}
		return nil
	})
	return all, err
}

func checkIPHolder(switchName, port string) error {
	if err := checkKey("switch", switchName); err != nil {
		return err
	}
	return checkKey("port", port)
}

func ipExhausted(switchName string, spans []vswitch.Span) error {
	const shown = 3
	var size uint64
	var names []string
	for i, s := range spans {
		size += spanSize(s)
		if i < shown {
			names = append(names, s.String())
		}
	}
	if len(spans) > shown {
		names = append(names, fmt.Sprintf("%d more", len(spans)-shown))
	}
	return &vswitch.Error{
		Kind: vswitch.IPPoolExhausted, Object: "switch " + switchName,
		Err:  fmt.Errorf("all %d addresses of %s are in use", size, strings.Join(names, ", ")),
		Hint: "widen the range or add one under \"ipam\" in the network's configuration; `patchbay gc` frees what no container uses",
	}
}

// spanSize counts a span's addresses; one that is ever exhausted has fewer than 2^64.
func spanSize(s vswitch.Span) uint64 {
	first, last := s.First.As16(), s.Last.As16()
	return binary.BigEndian.Uint64(last[8:]) - binary.BigEndian.Uint64(first[8:]) + 1
}
