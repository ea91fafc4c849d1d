package plugin

import (
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// previous is the result of the plugin before us in the chain, or nil.
func (c *config) previous() (*types100.Result, error) {
	if err := noNulls("prevResult", c.RawPrevResult); err != nil {
		return nil, decoding(err)
	}
	if err := version.ParsePrevResult(&c.PluginConf); err != nil {
		return nil, misread("prevResult", nil, err)
	}
	if c.PrevResult == nil {
		return nil, nil
	}
	r, err := types100.NewResultFromResult(c.PrevResult)
	if err != nil {
		return nil, misread("prevResult", nil, err)
	}
	return r, nil
}

// noNulls refuses a result with null where an entry should be. The library takes
// them for entries, and neither it nor anybody expects that.
func noNulls(path string, result map[string]any) error {
	for key, value := range result {
		entries, _ := value.([]any)
		for i, entry := range entries {
			if entry == nil && isList(key) {
				return fmt.Errorf("%s.%s[%d] is null", path, key, i)
			}
		}
	}
	return nil
}

// isList reports whether a key of a result holds a list of entries. Package json
// does not tell upper from lower case in them.
func isList(key string) bool {
	return strings.EqualFold(key, "interfaces") || strings.EqualFold(key, "ips") || strings.EqualFold(key, "routes")
}

// adopt takes over the host-side interface of a previous result, a tap say, in
// place of a veth pair. Its guest's MAC is the container-side interface's, if the
// result names one.
func adopt(req *engine.AttachRequest, prev *types100.Result) error {
	for _, i := range prev.Interfaces {
		if i.Sandbox != "" {
			if req.MAC.IsZero() && i.Name == req.Owner.Endpoint && i.Mac != "" {
				mac, err := vswitch.ParseMAC(i.Mac)
				if err != nil {
					return err
				}
				req.MAC = mac
			}
			continue
		}
		if req.Netdev != "" {
			return types.NewError(types.ErrInvalidNetworkConfig,
				fmt.Sprintf("prevResult has several host-side interfaces, %s and %s: which one to attach is not clear", req.Netdev, i.Name),
				"put patchbay first in the chain, or behind a plugin that makes one host-side interface")
		}
		req.Netdev = i.Name
	}
	return nil
}
