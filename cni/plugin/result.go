package plugin

import (
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

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
		if port.Plugged() { // a VF has no end at the switch
			r.Interfaces = append(r.Interfaces, &types100.Interface{Name: port.Netdev, Mac: a.HostMAC.String(), Mtu: port.MTU})
		}
		endpoint = len(r.Interfaces)
		r.Interfaces = append(r.Interfaces,
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
