package plugin

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/core/wire"
)

// validAttachments is the key with which a runtime tells GC what to keep.
const validAttachments = "cni.dev/valid-attachments"

// remains is all that DEL and GC have to know of a configuration. Whatever else
// is wrong with it, and it may have been edited since the ADD, must not keep them
// from freeing.
type remains struct {
	Name  string
	IPAM  ipamConfig // its type, if that can be read
	valid json.RawMessage
}

// parseRemains never fails: what cannot be read is left out.
func parseRemains(data []byte) remains {
	var r remains
	var keys, ipam map[string]json.RawMessage
	read := func(raw json.RawMessage, into any) bool { return len(raw) > 0 && json.Unmarshal(raw, into) == nil }
	if !read(data, &keys) {
		return r
	}
	r.valid = keys[validAttachments]
	if !read(keys["name"], &r.Name) {
		r.Name = ""
	}
	if !read(keys["ipam"], &ipam) || !read(ipam["type"], &r.IPAM.Type) {
		r.IPAM.Type = ""
	}
	return r
}

// del detaches a container. It needs neither its namespace nor a previous result,
// and succeeds on what is not there, or never can have been. Another IPAM hears of
// it before the netdev goes, since a DHCP lease is released through it; neither
// failure stops the other.
func (p plugin) del(ctx context.Context, args wire.Call) error {
	r := parseRemains(args.Stdin)
	owner := ownerOf(r.Name, args)
	if owner.Validate() != nil {
		return nil
	}
	return joined(r.IPAM.call(ctx, invoke.DelegateDel, args.Stdin), p.client.Detach(ctx, owner))
}

// gc detaches what the runtime does not list any more, and goes on after errors.
func (p plugin) gc(ctx context.Context, args wire.Call) error {
	r := parseRemains(args.Stdin)
	if len(r.valid) == 0 {
		// Without a list nothing can be told from what is still in use. libcni sends
		// none if its caller gave none, after a DEL for everything it knows of.
		return nil
	}
	if r.Name == "" {
		return types.NewError(types.ErrInvalidNetworkConfig, "missing network name; nothing was removed", "")
	}
	req := engine.GCRequest{Network: r.Name}
	var err error
	if req.Valid, err = parseValid(r.valid); err != nil {
		return err
	}
	_, err = p.client.GC(ctx, req)
	return joined(err, r.IPAM.call(ctx, invoke.DelegateGC, args.Stdin))
}

// parseValid reads the list of what to keep. Of an entry that names nothing one
// cannot know what it was to keep.
func parseValid(raw json.RawMessage) ([]vswitch.Owner, error) {
	var list []types.GCAttachment
	if err := decode(validAttachments, raw, &list); err != nil {
		return nil, err
	}
	var owners []vswitch.Owner
	for i, a := range list {
		if a.ContainerID == "" || a.IfName == "" {
			return nil, types.NewError(types.ErrInvalidNetworkConfig,
				fmt.Sprintf("%s[%d] lacks containerID or ifname; nothing was removed", validAttachments, i), "")
		}
		owners = append(owners, vswitch.Owner{ID: a.ContainerID, Endpoint: a.IfName})
	}
	return owners, nil
}
