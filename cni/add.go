package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// add attaches a container and prints the result.
func (p plugin) add(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return cniError(err)
	}
	if ownNetns(args.Netns) {
		return types.NewError(types.ErrInvalidNetNS, "CNI_NETNS is the plugin's own network namespace", "")
	}
	result, err := p.attach(context.Background(), c, args)
	if err != nil {
		return cniError(err)
	}
	return cniError(types.PrintResult(result, c.CNIVersion))
}

// ownNetns reports whether the path is the namespace that the plugin runs in. The
// library looks at this too, but only when all is done and printed.
func ownNetns(path string) bool {
	theirs, err1 := os.Stat(path)
	ours, err2 := os.Stat("/proc/self/ns/net")
	return err1 == nil && err2 == nil && os.SameFile(theirs, ours)
}

func (p plugin) attach(ctx context.Context, c *config, args *skel.CmdArgs) (*types100.Result, error) {
	prev, err := c.previous()
	if err != nil {
		return nil, err
	}
	req, err := c.request(args, prev)
	if err != nil {
		return nil, err
	}
	dns := c.DNS
	if c.IPAM.delegated() {
		leased, err := c.IPAM.delegateAdd(ctx, args.StdinData)
		if err != nil {
			return nil, err
		}
		req.Addresses, req.Routes = fromDelegate(leased, c.IPAM.DAD)
		if dns.IsEmpty() {
			dns = leased.DNS
		}
	}
	a, err := p.client.Attach(ctx, req)
	if err != nil {
		return nil, errors.Join(cniError(err), c.IPAM.delegateDel(ctx, args.StdinData))
	}
	result := resultOf(a, args.Netns, prev)
	result.DNS = dns
	return since110(result, c.CNIVersion)
}

// request turns a configuration into what the engine is asked for.
func (c *config) request(args *skel.CmdArgs, prev *types100.Result) (engine.AttachRequest, error) {
	w, err := c.wishes(args.Args)
	if err != nil {
		return engine.AttachRequest{}, err
	}
	req := engine.AttachRequest{
		Owner: c.owner(args), Switch: c.Switch, Define: c.define,
		MAC: w.mac, MTU: c.MTU, MACSpoofing: c.MACSpoofing, DAD: c.IPAM.DAD,
	}
	if c.IPAM.Type == ownIPAM {
		req.Ranges = append(append(req.Ranges, c.Runtime.IPRanges...), c.IPAM.Ranges...)
		req.Routes, req.Requested = c.IPAM.Routes, w.ips
		if len(req.Ranges) == 0 {
			return req, types.NewError(types.ErrInvalidNetworkConfig, "ipam has no ranges", `give "ranges", "subnet" or the capability ipRanges`)
		}
	} else if c.IPAM.Type == "" && (len(w.ips) > 0 || len(c.Runtime.IPRanges) > 0) {
		return req, types.NewError(types.ErrInvalidNetworkConfig, "addresses are requested, but the network has no ipam", `add "ipam": {"type": "patchbay", "ranges": ...}`)
	}
	if prev != nil {
		err = adopt(&req, prev)
	}
	return req, err
}

func (c *config) owner(args *skel.CmdArgs) vswitch.Owner {
	return vswitch.Owner{
		Kind: vswitch.OwnerContainer, Network: c.Name, ID: args.ContainerID, Endpoint: args.IfName, Netns: args.Netns,
	}
}

// previous is the result of the plugin before us in the chain, or nil.
func (c *config) previous() (*types100.Result, error) {
	if err := version.ParsePrevResult(&c.PluginConf); err != nil {
		return nil, decoding(err)
	}
	if c.PrevResult == nil {
		return nil, nil
	}
	r, err := types100.NewResultFromResult(c.PrevResult)
	if err != nil {
		return nil, decoding(err)
	}
	return r, nil
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

// resultOf is the CNI result of an attachment: bridge, switch end and container
// end, in this order, behind what the chain had.
func resultOf(a engine.Attachment, netns string, prev *types100.Result) *types100.Result {
	r := &types100.Result{CNIVersion: types100.ImplementedSpecVersion}
	if prev != nil {
		r.Interfaces, r.IPs, r.Routes = prev.Interfaces, prev.IPs, prev.Routes
	}
	port := a.Port
	r.Interfaces = append(r.Interfaces, &types100.Interface{
		Name: a.Switch.Bridge, Mac: a.Switch.BridgeMAC.String(), Mtu: a.Switch.EffectiveMTU,
	})
	endpoint := -1
	if port.Adopted {
		for i, known := range r.Interfaces {
			if known.Sandbox != "" && known.Name == port.Owner.Endpoint {
				endpoint = i
			}
		}
	} else {
		endpoint = len(r.Interfaces) + 1
		r.Interfaces = append(r.Interfaces,
			&types100.Interface{Name: port.Netdev, Mac: a.HostMAC.String(), Mtu: port.MTU},
			&types100.Interface{Name: port.Owner.Endpoint, Mac: port.MAC.String(), Mtu: port.MTU, Sandbox: netns})
	}
	for _, addr := range port.Addresses {
		ip := &types100.IPConfig{Address: ipNet(addr.Prefix)}
		if addr.Gateway.IsValid() {
			ip.Gateway = addr.Gateway.AsSlice()
		}
		if endpoint >= 0 {
			ip.Interface = types100.Int(endpoint)
		}
		r.IPs = append(r.IPs, ip)
	}
	for _, route := range port.Routes {
		r.Routes = append(r.Routes, resultRoute(route))
	}
	return r
}

// since110 leaves out what the specification has only since 1.1.0: the library
// converts the shape of a result, but hands these on to older runtimes.
func since110(r *types100.Result, configured string) (*types100.Result, error) {
	if newer, err := version.GreaterThanOrEqualTo(configured, "1.1.0"); err != nil || newer {
		return r, err
	}
	for i, known := range r.Interfaces {
		r.Interfaces[i] = &types100.Interface{Name: known.Name, Mac: known.Mac, Sandbox: known.Sandbox}
	}
	for i, known := range r.Routes {
		r.Routes[i] = &types.Route{Dst: known.Dst, GW: known.GW}
	}
	return r, nil
}

func resultRoute(r vswitch.Route) *types.Route {
	out := &types.Route{
		Dst: ipNet(r.Dst), MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority, Table: r.Table, Scope: r.Scope,
	}
	if r.Gateway.IsValid() {
		out.GW = r.Gateway.AsSlice()
	}
	return out
}

// ipNet is a prefix as package net has it.
func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
