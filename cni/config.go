package main

import (
	"bytes"
	"encoding/json"
	"fmt"
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
	IPAM        ipamConfig
	Args        cniArgs
	Runtime     runtimeConfig

	// listsValid tells an empty list of valid attachments from none at all.
	listsValid bool
}

// validAttachments is the key with which a runtime tells GC what to keep.
const validAttachments = "cni.dev/valid-attachments"

// runtimeConfig is what the runtime fills in for declared capabilities.
type runtimeConfig struct {
	MAC      vswitch.MAC          `json:"mac"`
	IPs      []string             `json:"ips"`
	IPRanges []vswitch.IPRangeSet `json:"ipRanges"`
}

// cniArgs is the part of "args" that is for CNI plugins.
type cniArgs struct {
	MAC vswitch.MAC `json:"mac"`
	IPs []string    `json:"ips"`
}

// knownKeys are the specification's keys and ours; "cni.dev/" begins more.
func knownKeys() []string {
	return []string{
		"switch", "mtu", "macSpoofing", "ipam", "dns", "args", "runtimeConfig", "capabilities", "prevResult",
		"cniVersion", "cniVersions", "name", "type", "disableCheck", "disableGC", "loadOnlyInlinedPlugins",
	}
}

// laterKeys are keys whose time has not come: refused by name, never ignored.
func laterKeys() []string { return []string{"bandwidth", "vlan", "vlanTrunk"} }

// parse reads and validates a configuration. It touches nothing. Each key is
// decoded by itself: a plugin lives for milliseconds, and decoding the library's
// whole type would take one of them.
func parse(data []byte) (*config, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(data, &keys); err != nil {
		return nil, decoding(err)
	}
	if err := checkKeys(keys); err != nil {
		return nil, err
	}
	c := &config{}
	for key, into := range map[string]any{
		"cniVersion": &c.CNIVersion, "name": &c.Name, "dns": &c.DNS,
		"prevResult": &c.RawPrevResult, validAttachments: &c.ValidAttachments,
		"mtu": &c.MTU, "macSpoofing": &c.MACSpoofing,
	} {
		if raw, given := keys[key]; given {
			if err := json.Unmarshal(raw, into); err != nil {
				return nil, decoding(fmt.Errorf("%s: %w", key, err))
			}
		}
	}
	_, c.listsValid = keys[validAttachments]
	if err := c.parseSwitch(keys["switch"]); err != nil {
		return nil, err
	}
	if err := c.IPAM.parse(keys["ipam"]); err != nil {
		return nil, err
	}
	return c, c.parseFromRuntime(keys["runtimeConfig"], keys["args"])
}

// checkKeys refuses what we do not know: a setting that is misspelled must not be
// ignored. The specification wants key and value named.
func checkKeys(keys map[string]json.RawMessage) error {
	for key, value := range keys {
		if slices.Contains(laterKeys(), key) {
			return types.NewError(types.ErrUnsupportedField,
				fmt.Sprintf("key %q (value %.64s) is not supported yet", key, value), "leave it out")
		}
		if !slices.Contains(knownKeys(), key) && !strings.HasPrefix(key, "cni.dev/") {
			return unsupported(key, value, vswitch.UnknownKey(key, knownKeys()))
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
	case len(raw) == 0 || bytes.Equal(raw, []byte("null")):
		return types.NewError(types.ErrInvalidNetworkConfig, `key "switch" is missing`,
			`name a switch, or define one: "switch": {"name": "prod", "type": "internal"}`)
	case raw[0] == '"':
		if err := json.Unmarshal(raw, &c.Switch); err != nil {
			return decoding(err)
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

// parseFromRuntime reads the keys that the runtime adds.
func (c *config) parseFromRuntime(runtime, rawArgs json.RawMessage) error {
	if len(runtime) > 0 {
		if err := strict("runtimeConfig", runtime, &c.Runtime); err != nil {
			return err
		}
	}
	if len(rawArgs) == 0 {
		return nil
	}
	var args struct {
		CNI json.RawMessage `json:"cni"`
	}
	if err := json.Unmarshal(rawArgs, &args); err != nil {
		return decoding(err)
	}
	if len(args.CNI) == 0 {
		return nil
	}
	// By convention a plugin ignores args that it does not know: they may be
	// another plugin's.
	if err := json.Unmarshal(args.CNI, &c.Args); err != nil {
		return decoding(err)
	}
	return nil
}

// strict decodes an object of ours and reports unknown keys by their path.
func strict(path string, raw json.RawMessage, v any) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil {
		return decoding(fmt.Errorf("%s: %w", path, err))
	}
	known := vswitch.JSONKeys(v)
	for key, value := range keys {
		if !slices.Contains(known, key) {
			return unsupported(path+"."+key, value, vswitch.UnknownKey(key, known))
		}
	}
	if err := json.Unmarshal(raw, v); err != nil {
		if kind := vswitch.KindOf(err); kind != vswitch.KernelFailed {
			return cniError(err)
		}
		return decoding(fmt.Errorf("%s: %w", path, err))
	}
	return nil
}
