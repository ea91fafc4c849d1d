package plugin

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// ownIPAM is the type that is served in process; any other names a plugin.
const ownIPAM = "patchbay"

// ipamConfig is the key "ipam". Of another type's only Type and DAD are read.
type ipamConfig struct {
	Type   string               `json:"type"`
	Ranges []vswitch.IPRangeSet `json:"ranges"`
	Routes []vswitch.Route      `json:"routes"`
	// DAD leaves duplicate address detection on, as if others than we gave out
	// addresses on the switch.
	DAD bool `json:"dad"`

	// One range may be written without "ranges", as host-local allows.
	Subnet  netip.Prefix   `json:"subnet"`
	Start   netip.Addr     `json:"rangeStart"`
	End     netip.Addr     `json:"rangeEnd"`
	Gateway netip.Addr     `json:"gateway"`
	Exclude []vswitch.Span `json:"exclude"`
}

func (i *ipamConfig) parse(raw json.RawMessage) error {
	if isNull(raw) {
		return nil
	}
	var keys map[string]json.RawMessage
	if err := decode("ipam", raw, &keys); err != nil {
		return err
	}
	if given, has := keys["type"]; has {
		if err := decode("ipam.type", given, &i.Type); err != nil {
			return err
		}
	}
	switch i.Type {
	case "":
		return noType(keys)
	case ownIPAM:
		return i.parseOwn(raw, keys)
	}
	if given, has := keys["dad"]; has {
		return decode("ipam.dad", given, &i.DAD)
	}
	return nil
}

// noType refuses settings that nobody would serve.
func noType(keys map[string]json.RawMessage) error {
	delete(keys, "type")
	if len(keys) == 0 {
		return nil
	}
	return types.NewError(types.ErrInvalidNetworkConfig,
		fmt.Sprintf("ipam has no type, but %s", strings.Join(slices.Sorted(maps.Keys(keys)), ", ")),
		`add "type": "patchbay", or leave ipam out`)
}

func (i *ipamConfig) parseOwn(raw json.RawMessage, keys map[string]json.RawMessage) error {
	if err := strict("ipam", raw, i); err != nil {
		return err
	}
	if i.Subnet.IsValid() {
		i.Ranges = append(i.Ranges, vswitch.IPRangeSet{{
			Subnet: i.Subnet, Start: i.Start, End: i.End, Gateway: i.Gateway, Exclude: i.Exclude,
		}})
	}
	for _, key := range []string{"rangeStart", "rangeEnd", "gateway", "exclude"} {
		if !i.Subnet.IsValid() && !isNull(keys[key]) {
			return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("ipam.%s is given without ipam.subnet", key),
				`add "subnet", or write it into a range of "ranges"`)
		}
	}
	for n, r := range i.Routes {
		if !r.Dst.IsValid() {
			return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("ipam.routes[%d]: dst is missing or no prefix", n), "")
		}
	}
	return nil
}

// noRanges is why our own IPAM cannot serve.
func noRanges() error {
	return types.NewError(types.ErrInvalidNetworkConfig, "ipam has no ranges", `give "ranges", "subnet" or the capability ipRanges`)
}
