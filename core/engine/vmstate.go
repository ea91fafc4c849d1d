package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file reads what another host says of a VM's ports. Nothing of it may be passed over: a
// port would get less than it had, and nobody would know before the VM runs.

// DomainState is what of a VM's ports travels with the VM when it goes to another host. It is
// small enough for the metadata of a domain. Version is DomainStateVersion.
type DomainState struct {
	Version int         `json:"version"`
	Ports   []PortState `json:"ports"`
}

// DomainStateVersion is what this build writes and the highest that it reads. It grows with
// every field.
const DomainStateVersion = 2 // 2: offload

// PortState is one port of a DomainState. On the other host it is the port with the same
// MAC address on the switch of the same name.
type PortState struct {
	Switch string      `json:"switch"`
	MAC    vswitch.MAC `json:"mac"`

	VLAN        vswitch.PortVLAN `json:"vlan,omitzero"`
	Isolated    bool             `json:"isolated,omitempty"`
	MACSpoofing bool             `json:"macSpoofing,omitempty"`
	Policy      vswitch.Policy   `json:"policy,omitzero"`
	// Narrowed is what the domain's definition has taken away already, as in vswitch.VMPort.
	Narrowed string `json:"narrowed,omitempty"`
	// Counted is what the port has counted so far, on all hosts.
	Counted vswitch.VMCounts `json:"counted,omitzero"`
}

const (
	// maxDomainPorts is more than any VM has NICs.
	maxDomainPorts = 256
	// maxDomainState is more than they need; libvirt carries 4 MiB.
	maxDomainState = 1 << 20
)

// UnmarshalJSON reads a state to the last field, or fails with Invalid. Of one of a version that
// this build does not know it reads no more than that: Validate refuses it.
func (s *DomainState) UnmarshalJSON(text []byte) error {
	if len(text) > maxDomainState {
		return stateFault(vswitch.Range, fmt.Errorf("%d bytes are more than %d", len(text), maxDomainState))
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return stateFault(vswitch.Invalid, err)
	}
	if checkStateVersion(head.Version) != nil {
		*s = DomainState{Version: head.Version}
		return nil
	}
	type plain DomainState
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode((*plain)(s)); err != nil {
		return stateFault(vswitch.Invalid, err)
	}
	return nil
}

func stateFault(kind vswitch.Kind, err error) error {
	return &vswitch.Error{
		Kind: kind, Object: "state of the VM's ports", Err: err,
		Hint: "bring Patchbay on this host up to that of the other one",
	}
}

func checkStateVersion(version int) error {
	if version >= 1 && version <= DomainStateVersion {
		return nil
	}
	return stateFault(vswitch.Conflict, fmt.Errorf("it is of version %d, and this host reads up to %d", version, DomainStateVersion))
}

// Validate bounds what comes from another host, and refuses a version that this build does
// not know.
func (s DomainState) Validate() error {
	if err := checkStateVersion(s.Version); err != nil {
		return err
	}
	if len(s.Ports) > maxDomainPorts {
		return &vswitch.Error{Kind: vswitch.Range, Object: "state of the VM's ports", Err: fmt.Errorf("%d ports are more than %d", len(s.Ports), maxDomainPorts)}
	}
	var errs []error
	for _, p := range s.Ports {
		errs = append(errs, vswitch.ValidateName(p.Switch), p.MAC.ValidateStatic(), p.VLAN.Validate(), p.Policy.Validate())
		if p.Narrowed != "" {
			if err := vswitch.UnmarshalStrict([]byte(p.Narrowed), new(vswitch.Narrowing)); err != nil {
				errs = append(errs, stateFault(vswitch.Invalid, fmt.Errorf("narrowed: %w", err)))
			}
		}
	}
	return errors.Join(errs...)
}
