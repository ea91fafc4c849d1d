package plugin

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/core/wire"
)

// add attaches a container and prints the result.
func (p plugin) add(ctx context.Context, args wire.Call, out *bytes.Buffer) error {
	c, err := parse(args.Stdin)
	if err != nil {
		return cniError(err)
	}
	if ownNetns(args.Netns) {
		return types.NewError(types.ErrInvalidNetNS, "CNI_NETNS is the plugin's own network namespace", "")
	}
	result, err := p.attach(ctx, c, args)
	if err != nil {
		return cniError(err)
	}
	return printed(out, result, c.CNIVersion)
}

// ownNetns reports whether the path is the namespace that the caller works in. That is
// the thread's: in patchbayd the first thread, which is what "self" means, may be inside
// a container at the moment.
func ownNetns(path string) bool { return sameFile(path, "/proc/thread-self/ns/net") }

// sameFile reports whether two paths lead to one file, or namespace.
func sameFile(a, b string) bool {
	first, err1 := os.Stat(a)
	second, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(first, second)
}

func (p plugin) attach(ctx context.Context, c *config, args wire.Call) (*types100.Result, error) {
	prev, err := c.previous()
	if err != nil {
		return nil, err
	}
	req, err := c.request(args, prev)
	if err != nil {
		return nil, err
	}
	lease, err := p.addresses(ctx, c, args.Stdin, &req)
	if err != nil {
		return nil, err
	}
	a, err := p.client.Attach(ctx, req)
	if err != nil {
		if lease != nil {
			err = joined(err, p.giveBack(ctx, c, args.Stdin, req.Owner))
		}
		return nil, err
	}
	result := resultOf(a, args.Netns, prev)
	result.DNS = c.dns(lease, prev)
	return since110(result, c.CNIVersion)
}

// dns is the network's own, else what an IPAM plugin or the chain before us gave.
func (c *config) dns(given ...*types100.Result) types.DNS {
	dns := c.DNS
	for _, r := range given {
		if r != nil && dns.IsEmpty() {
			dns = r.DNS
		}
	}
	return dns
}

// request turns a configuration into what the engine is asked for.
func (c *config) request(args wire.Call, prev *types100.Result) (engine.AttachRequest, error) {
	w, err := c.wishes(args.Args)
	if err != nil {
		return engine.AttachRequest{}, err
	}
	req := engine.AttachRequest{
		Owner: ownerOf(c.Name, args), Switch: c.Switch, Define: c.define,
		MAC: w.mac, MTU: c.MTU, MACSpoofing: c.MACSpoofing, DAD: c.IPAM.DAD,
		VLAN: c.VLAN, Isolated: c.PortIsolation, Policy: c.Policy,
	}
	if err := usable(req.Owner); err != nil {
		return req, err
	}
	if c.IPAM.Type == ownIPAM {
		req.Ranges = append(append(req.Ranges, c.Runtime.IPRanges...), c.IPAM.Ranges...)
		req.Routes, req.Requested = c.IPAM.Routes, w.ips
		if len(req.Ranges) == 0 {
			return req, noRanges()
		}
	} else if c.IPAM.Type == "" && (len(w.ips) > 0 || len(c.Runtime.IPRanges) > 0) {
		return req, types.NewError(types.ErrInvalidNetworkConfig, "addresses are requested, but the network has no ipam", `add "ipam": {"type": "patchbay", "ranges": ...}`)
	}
	if prev != nil {
		err = adopt(&req, prev)
	}
	return req, err
}

func ownerOf(network string, args wire.Call) vswitch.Owner {
	return vswitch.Owner{
		Kind: vswitch.OwnerContainer, Network: network, ID: args.ContainerID, Endpoint: args.IfName, Netns: args.Netns,
	}
}

// usable refuses an owner that cannot be attached before anybody is asked to do
// something for it. The library has looked at the environment already, but it
// lets pass what no netdev can be called: "all" and "default" are the kernel's
// words for every netdev (net.ipv4.conf.all).
func usable(o vswitch.Owner) error {
	if o.Endpoint == "all" || o.Endpoint == "default" {
		return types.NewError(types.ErrInvalidEnvironmentVariables,
			fmt.Sprintf("CNI_IFNAME %q stands for all interfaces in the kernel's settings", o.Endpoint), "use another name, like eth0")
	}
	err := o.Validate()
	if err == nil {
		return nil
	}
	named := o
	named.Network = "any"
	if named.Validate() == nil { // it is the network's name, which is of the configuration
		return err
	}
	return types.NewError(types.ErrInvalidEnvironmentVariables, "CNI_CONTAINERID, CNI_IFNAME: "+err.Error(), "")
}
