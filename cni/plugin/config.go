package plugin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// config is a network configuration of ours as the runtime hands it over.
type config struct {
	types.PluginConf

	// Switch is what the key "switch" names; define is its definition, if the key
	// holds one instead of a name.
	Switch string
	define *vswitch.Switch

	MTU         int
	MACSpoofing bool
	// VLAN is nil where the configuration leaves it to the switch.
	VLAN          *vswitch.PortVLAN
	PortIsolation bool
	Policy        vswitch.PolicyChange
	IPAM          ipamConfig
	Args          cniArgs
	Runtime       runtimeConfig
}

// runtimeConfig is what the runtime fills in for declared capabilities.
type runtimeConfig struct {
	MAC      vswitch.MAC          `json:"mac"`
	IPs      []string             `json:"ips"`
	IPRanges []vswitch.IPRangeSet `json:"ipRanges"`

	Bandwidth runtimeBandwidth `json:"bandwidth"`
}

// cniArgs is the part of "args" that is for CNI plugins.
type cniArgs struct {
	MAC vswitch.MAC `json:"mac"`
	IPs []string    `json:"ips"`
}

// knownKeys are the specification's keys and ours; "cni.dev/" begins more.
func knownKeys() []string {
	return []string{
		"switch", "mtu", "macSpoofing", "vlan", "vlanTrunk", "portIsolation",
		"dhcpGuard", "routerGuard", "addressGuard", "stormLimit", "ieeePriorityTag", "acl", "bandwidth", "mirror", "offload", "ipam", "dns", "args", "runtimeConfig", "capabilities", "prevResult",
		"cniVersion", "cniVersions", "name", "type", "disableCheck", "disableGC", "loadOnlyInlinedPlugins",
	}
}

// parse reads and validates a configuration. It touches nothing. Each key is
// decoded by itself: a plugin lives for milliseconds, and decoding the library's
// whole type would take one of them.
func parse(data []byte) (*config, error) {
	var keys map[string]json.RawMessage
	if err := decode("", data, &keys); err != nil {
		return nil, err
	}
	if err := checkKeys(keys); err != nil {
		return nil, err
	}
	c := &config{}
	for _, field := range []struct {
		key  string
		into any
	}{
		{"cniVersion", &c.CNIVersion},
		{"name", &c.Name},
		{"dns", &c.DNS},
		{"prevResult", &c.RawPrevResult},
		{"capabilities", &c.Capabilities},
		{"mtu", &c.MTU},
		{"macSpoofing", &c.MACSpoofing},
		{"portIsolation", &c.PortIsolation},
		{"dhcpGuard", &c.Policy.DHCPGuard},
		{"routerGuard", &c.Policy.RouterGuard},
		{"addressGuard", &c.Policy.AddressGuard},
		{"stormLimit", &c.Policy.StormLimit},
		{"ieeePriorityTag", &c.Policy.IEEEPriorityTag},
		{"mirror", &c.Policy.Mirror},
	} {
		if raw, given := keys[field.key]; given {
			if err := decode(field.key, raw, field.into); err != nil {
				return nil, err
			}
		}
	}
	if err := c.parseSwitch(keys["switch"]); err != nil {
		return nil, err
	}
	if err := c.parseVLAN(keys["vlan"], keys["vlanTrunk"]); err != nil {
		return nil, err
	}
	if err := c.parseACL(keys["acl"]); err != nil {
		return nil, err
	}
	if err := c.IPAM.parse(keys["ipam"]); err != nil {
		return nil, err
	}
	if err := c.parseFromRuntime(keys["runtimeConfig"], keys["args"]); err != nil {
		return nil, err
	}
	if err := c.parseOffload(keys["offload"]); err != nil {
		return nil, err
	}
	return c, c.parseBandwidth(keys["bandwidth"])
}

// checkKeys refuses what we do not know: a setting that is misspelled must not be
// ignored. The specification wants key and value named.
func checkKeys(keys map[string]json.RawMessage) error {
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !slices.Contains(knownKeys(), key) && !strings.HasPrefix(key, "cni.dev/") {
			return unsupported(key, keys[key], vswitch.UnknownKey(key, knownKeys()))
		}
	}
	return nil
}

func unsupported(key string, value json.RawMessage, err error) error {
	return types.NewError(types.ErrUnsupportedField,
		fmt.Sprintf("key %.64q (value %.64s) is unknown", key, value), vswitch.HintOf(err))
}

func (c *config) parseSwitch(raw json.RawMessage) error {
	raw = bytes.TrimSpace(raw)
	switch {
	case isNull(raw):
		return types.NewError(types.ErrInvalidNetworkConfig, `key "switch" is missing`,
			`name a switch, or define one: "switch": {"name": "prod", "type": "internal"}`)
	case raw[0] == '"':
		if err := decode("switch", raw, &c.Switch); err != nil {
			return err
		}
	default:
		var s vswitch.Switch
		if err := strict("switch", raw, &s); err != nil {
			return err
		}
		if err := s.Validate(); err != nil {
			return cniError(err)
		}
		c.Switch, c.define = s.Name, &s
	}
	if err := vswitch.ValidateName(c.Switch); err != nil {
		return types.NewError(types.ErrInvalidNetworkConfig, "switch: "+err.Error(), "")
	}
	return nil
}

// isNull reports whether a key is left out or null, which mean the same.
func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// parseFromRuntime reads the keys that the runtime adds.
func (c *config) parseFromRuntime(runtime, rawArgs json.RawMessage) error {
	if !isNull(runtime) {
		if err := strict("runtimeConfig", runtime, &c.Runtime); err != nil {
			return err
		}
	}
	if isNull(rawArgs) {
		return nil
	}
	var args struct {
		CNI json.RawMessage `json:"cni"`
	}
	if err := decode("args", rawArgs, &args); err != nil || isNull(args.CNI) {
		return err
	}
	// By convention a plugin ignores args that it does not know: they may be
	// another plugin's.
	return decode("args.cni", args.CNI, &c.Args)
}
