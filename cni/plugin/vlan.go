package plugin

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// trunkItem is an element of "vlanTrunk" as the reference bridge plugin has it.
type trunkItem struct {
	ID    *int `json:"id"`
	MinID *int `json:"minID"`
	MaxID *int `json:"maxID"`
}

// parseVLAN reads "vlan": an id, a text or an object; and "vlanTrunk", whose native VLAN
// is then what "vlan" names.
func (c *config) parseVLAN(vlan, trunk json.RawMessage) error {
	if !isNull(vlan) {
		c.VLAN = new(vswitch.PortVLAN)
		if err := decodeVLAN(vlan, c.VLAN); err != nil {
			return err
		}
	}
	if isNull(trunk) {
		return nil
	}
	allowed, err := parseTrunk(trunk)
	if err != nil {
		return err
	}
	v := vswitch.PortVLAN{Mode: vswitch.Trunk, Allowed: allowed}
	switch {
	case c.VLAN != nil && c.VLAN.Mode == vswitch.Access:
		v.Native = c.VLAN.ID
	case c.VLAN != nil && !c.VLAN.IsZero():
		return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("vlan %q and vlanTrunk say different things", c.VLAN),
			`write the trunk's native VLAN alone: "vlan": 1, or leave vlanTrunk out`)
	}
	c.VLAN = &v
	if err := v.Validate(); err != nil {
		return types.NewError(types.ErrInvalidNetworkConfig, "vlanTrunk: "+err.Error(), `name the VLAN of untagged frames beside it: "vlan": 1`)
	}
	return nil
}

// decodeVLAN keeps the kind of what the value says itself.
func decodeVLAN(raw json.RawMessage, v *vswitch.PortVLAN) error {
	err := json.Unmarshal(raw, v)
	if err == nil {
		err = v.Validate()
	}
	if own := (*vswitch.Error)(nil); errors.As(err, &own) {
		return cniError(err)
	}
	if err != nil {
		return decode("vlan", raw, v)
	}
	return nil
}

func parseTrunk(raw json.RawMessage) (allowed vswitch.VLANSet, err error) {
	var items []json.RawMessage
	if err := decode("vlanTrunk", raw, &items); err != nil {
		return nil, err
	}
	for i, item := range items {
		var t trunkItem
		if err := strict(fmt.Sprintf("vlanTrunk[%d]", i), item, &t); err != nil {
			return nil, err
		}
		var text string
		switch {
		case t.ID != nil && t.MinID == nil && t.MaxID == nil:
			text = fmt.Sprint(*t.ID)
		case t.ID == nil && t.MinID != nil && t.MaxID != nil:
			text = fmt.Sprintf("%d-%d", *t.MinID, *t.MaxID)
		default:
			return nil, types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("vlanTrunk[%d] is neither an id nor a range", i),
				`write {"id": 10} or {"minID": 20, "maxID": 29}`)
		}
		set, err := vswitch.ParseVLANSet(text)
		if err != nil {
			return nil, cniError(err)
		}
		allowed = allowed.Union(set)
	}
	return allowed, nil
}
