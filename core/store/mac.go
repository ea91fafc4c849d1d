package store

import (
	"fmt"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Lease is one address held by a port.
type Lease struct {
	Port   string `json:"port,omitempty"`
	Static bool   `json:"static,omitempty"` // asked for, not taken from a pool
}

// MACLease is a MAC address held on this host.
type MACLease struct {
	MAC vswitch.MAC
	Lease
}

// MACCounts says how many MAC addresses are held and how.
type MACCounts struct {
	Used        int // dynamic, inside the pool's range
	Outside     int // dynamic, of an earlier range
	Static      int // asked for
	Quarantined int // released and resting
}

const (
	macScope    = "mac"
	macRangeKey = "macRange"
)

// MACRange returns the MAC pool's range and whether it is the default.
func (tx *Tx) MACRange() (r vswitch.MACRange, isDefault bool, err error) {
	t, err := tx.configTable(settingTable)
	if err != nil {
		return r, false, err
	}
	own := (*macRange)(&r)
	found, err := t.load(macRangeKey, own)
	if err == nil && !found {
		r = vswitch.DefaultMACRange(tx.store.machineID())
	}
	return r, !found, err
}

// SetMACRange changes the MAC pool's range; who holds an address keeps it. It
// fails with vswitch.MACPoolRange if the range is invalid or contains a static
// address in use. It needs UpdateConfig.
func (tx *Tx) SetMACRange(r vswitch.MACRange) error {
	if err := r.Validate(); err != nil {
		return err
	}
	t, err := tx.configTable(settingTable)
	if err != nil {
		return err
	}
	held, err := tx.MACs()
	if err != nil {
		return err
	}
	for _, l := range held {
		if l.Static && r.Contains(l.MAC) {
			return &vswitch.Error{
				Kind: vswitch.MACPoolRange, Object: "MAC pool",
				Err:  fmt.Errorf("range %s contains %s, the static address of %s", r, l.MAC, holderWords(l.Port)),
				Hint: "choose a range without it; `patchbay mac list` shows every address in use",
			}
		}
	}
	own := macRange(r)
	return t.store(macRangeKey, &own)
}

// ResetMACRange takes the pool back to the machine's default, as if its range had
// never been changed. It needs UpdateConfig.
func (tx *Tx) ResetMACRange() error {
	t, err := tx.configTable(settingTable)
	if err != nil {
		return err
	}
	return t.remove(macRangeKey)
}

// LeaseMAC gives port an address of the MAC pool. It fails with
// vswitch.MACPoolExhausted if all are held.
func (tx *Tx) LeaseMAC(port string) (vswitch.MAC, error) {
	if err := checkKey("port", port); err != nil {
		return vswitch.MAC{}, err
	}
	r, err := tx.poolRange()
	if err != nil {
		return vswitch.MAC{}, err
	}
	a, ok, err := tx.space(macScope).lease(macPool(r), port)
	if err == nil && !ok {
		err = r.Exhausted()
	}
	if err != nil {
		return vswitch.MAC{}, err
	}
	return a.mac(), nil
}

// HoldMAC gives port the static address m; asked again by the same port it
// changes nothing. It fails with vswitch.MACInvalid, MACStaticInPool or
// MACDuplicate.
func (tx *Tx) HoldMAC(m vswitch.MAC, port string) error {
	if err := checkKey("port", port); err != nil {
		return err
	}
	if err := m.ValidateStatic(); err != nil {
		return err
	}
	r, err := tx.poolRange()
	if err != nil {
		return err
	}
	object := "MAC address " + m.String()
	if r.Contains(m) {
		return &vswitch.Error{
			Kind: vswitch.MACStaticInPool, Object: object,
			Err:  fmt.Errorf("it lies inside the MAC pool's range %s, which is for dynamic addresses", r),
			Hint: "choose an address outside, or move the range with `patchbay mac pool set --first ADDRESS --last ADDRESS`",
		}
	}
	holder, err := tx.space(macScope).hold(macAddress(m), port, noPool)
	if err == nil && holder != "" {
		err = &vswitch.Error{
			Kind: vswitch.MACDuplicate, Object: object,
			Err:  fmt.Errorf("%s has it", holderWords(holder)),
			Hint: "choose another address; `patchbay mac list` shows every address in use",
		}
	}
	return err
}

// MACs returns every address held, sorted.
func (tx *Tx) MACs() ([]MACLease, error) {
	var all []MACLease
	err := tx.space(macScope).each(func(a address, rec record) error {
		if rec.held() {
			all = append(all, MACLease{a.mac(), rec.Lease})
		}
		return nil
	})
	return all, err
}

// MACCounts counts the addresses held and resting.
func (tx *Tx) MACCounts() (MACCounts, error) {
	var c MACCounts
	r, _, err := tx.MACRange()
	if err != nil {
		return c, err
	}
	s := tx.space(macScope)
	err = s.each(func(a address, rec record) error {
		switch {
		case !rec.held():
			if s.resting(rec) {
				c.Quarantined++
			}
		case rec.Static:
			c.Static++
		case r.Contains(a.mac()):
			c.Used++
		default:
			c.Outside++
		}
		return nil
	})
	return c, err
}

// syncHostMACs makes the leases of host ports those that the configuration
// records: a run file may be new, or a crash may have kept the two apart.
func (tx *Tx) syncHostMACs() error {
	switches, err := tx.Switches()
	if err != nil {
		return err
	}
	r, _, err := tx.MACRange()
	if err != nil {
		return err
	}
	s := tx.space(macScope)
	wanted := map[string]bool{} // by key of the holding
	hosts := vswitch.HostPortSwitchEnd("")
	for _, sw := range switches {
		if !sw.HostMAC.IsZero() {
			port := vswitch.HostPortSwitchEnd(sw.Name)
			wanted[port[len(hosts):]+holdingPrefix("")+s.leaseKey(macAddress(sw.HostMAC))] = true
		}
	}
	noted, err := tx.run.table(portTable).keys(hosts)
	if err != nil {
		return err
	}
	for _, key := range noted {
		if wanted[key] {
			continue
		}
		if err := s.release(address([]byte(key[max(0, len(key)-len(address{})):]))); err != nil {
			return err
		}
	}
	for _, sw := range switches {
		if err := tx.seedHostMAC(s, sw, r); err != nil {
			return err
		}
	}
	return tx.syncMACHolds(s, r)
}

func (tx *Tx) seedHostMAC(s *space, sw SwitchRecord, r vswitch.MACRange) error {
	a := macAddress(sw.HostMAC)
	rec, found, err := s.record(a)
	if err != nil || sw.HostMAC.IsZero() || found && rec.held() {
		return err // whoever has it got it from this very configuration
	}
	seed := record{Lease: Lease{Port: vswitch.HostPortSwitchEnd(sw.Name)}}
	if r.Contains(sw.HostMAC) {
		seed.Pool = macPool(r).id
	}
	return s.take(a, seed)
}
