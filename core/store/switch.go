package store

import (
	"cmp"
	"fmt"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// SwitchRecord is a switch as the configuration keeps it: the user's definition
// and what was decided when it was made.
type SwitchRecord struct {
	vswitch.Switch
	// Number is unique among switches and fixed: it makes the netdev group.
	Number uint16 `json:"number"`
	// HostMAC is the host port's address, leased from the pool or, if the host is on it,
	// that of the uplink; zero without a host port.
	HostMAC vswitch.MAC `json:"hostMAC,omitzero"`
	// Host tells where that is which the host had on the uplink. It alone does: what is
	// noted in the run file only says what it is.
	Host HostPlace `json:"host,omitempty"`
	// BridgeMAC is the bridge's own, made once so that it never flaps.
	BridgeMAC vswitch.MAC `json:"bridgeMAC"`
	// EffectiveMTU is MTU or what it became where the definition leaves it out.
	EffectiveMTU int `json:"effectiveMTU"`
	// UplinkMTU is the uplink's MTU before we changed it, to put back; 0: unchanged.
	UplinkMTU int `json:"uplinkMTU,omitempty"`
	// InternalVLAN is the VLAN that the switch's untagged traffic is in, which nobody
	// outside sees; 0 stands for 4094. See UntaggedVLAN.
	InternalVLAN int `json:"internalVLAN,omitempty"`
	// Spread says that the uplink is an active/active team.
	Spread bool `json:"spread,omitempty"`
	// Going says that a verb began to delete the switch.
	Going   bool      `json:"going,omitempty"`
	Created time.Time `json:"created"`
}

// UntaggedVLAN is the VLAN of the switch's untagged traffic.
func (r SwitchRecord) UntaggedVLAN() int { return cmp.Or(r.InternalVLAN, vswitch.MaxVLAN) }

// HostPlace is where that is which the host had on a switch's uplink.
type HostPlace string

// The places.
const (
	HostElsewhere HostPlace = ""     // it had nothing on the uplink
	HostOnPort    HostPlace = "port" // on the host port, which has the uplink's address
	HostKept      HostPlace = "kept" // nowhere: the switch has no host port
)

// Switch returns a switch, or an error of kind vswitch.NotFound.
func (tx *Tx) Switch(name string) (SwitchRecord, error) {
	var s SwitchRecord
	t, err := tx.configTable(switchTable)
	if err != nil {
		return s, err
	}
	found, err := t.load(name, &s)
	if err == nil && !found {
		err = &vswitch.Error{
			Kind: vswitch.NotFound, Object: "switch " + name,
			Err: fmt.Errorf("no such switch"), Hint: "`patchbay switch list` shows those that exist",
		}
	}
	return s, err
}

// Switches returns all switches, sorted by name.
func (tx *Tx) Switches() ([]SwitchRecord, error) {
	t, err := tx.configTable(switchTable)
	if err != nil {
		return nil, err
	}
	var all []SwitchRecord
	err = t.walk("", "", func(r row) error {
		var s SwitchRecord
		err := t.decode(r.body, &s)
		all = append(all, s)
		return err
	})
	return all, err
}

// PutSwitch stores a switch, new or changed. It needs UpdateConfig. A host port's
// address is to be leased in the same transaction.
func (tx *Tx) PutSwitch(s SwitchRecord) error {
	if err := checkKey("switch", s.Name); err != nil {
		return err
	}
	t, err := tx.configTable(switchTable)
	if err != nil {
		return err
	}
	return t.store(s.Name, s)
}

// DeleteSwitch removes a switch, which need not exist, and forgets which of its
// IP addresses rest. It needs UpdateConfig and leaves ports and leases alone.
func (tx *Tx) DeleteSwitch(name string) error {
	if err := checkKey("switch", name); err != nil {
		return err
	}
	t, err := tx.configTable(switchTable)
	if err != nil {
		return err
	}
	if err := t.remove(name); err != nil {
		return err
	}
	return tx.ipSpace(name).forget()
}

// FreeSwitchNumber returns the lowest number that no switch has, 1 or more.
func (tx *Tx) FreeSwitchNumber() (uint16, error) {
	all, err := tx.Switches()
	if err != nil {
		return 0, err
	}
	taken := make(map[uint16]bool, len(all))
	for _, s := range all {
		taken[s.Number] = true
	}
	for n := uint16(1); n <= vswitch.MaxSwitchNumber; n++ {
		if !taken[n] {
			return n, nil
		}
	}
	return 0, &vswitch.Error{Kind: vswitch.Conflict, Object: "switches", Err: fmt.Errorf("all %d numbers are taken", vswitch.MaxSwitchNumber)}
}
