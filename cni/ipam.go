package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// ownIPAM is the type that is served in process; any other names a plugin.
const ownIPAM = "patchbay"

// ipamConfig is the key "ipam". Of another type's only Type and DAD are read.
type ipamConfig struct {
	Type   string               `json:"type"`
	Ranges []vswitch.IPRangeSet `json:"ranges"`
	Routes []vswitch.Route      `json:"routes"`
	// DAD waits for duplicate address detection, as if others than we gave out
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
	if len(raw) == 0 {
		return nil
	}
	var head struct {
		Type string `json:"type"`
		DAD  bool   `json:"dad"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return decoding(fmt.Errorf("ipam: %w", err))
	}
	if head.Type != ownIPAM {
		i.Type, i.DAD = head.Type, head.DAD
		return nil
	}
	if err := strict("ipam", raw, i); err != nil {
		return err
	}
	if i.Subnet.IsValid() {
		i.Ranges = append(i.Ranges, vswitch.IPRangeSet{{
			Subnet: i.Subnet, Start: i.Start, End: i.End, Gateway: i.Gateway, Exclude: i.Exclude,
		}})
	}
	for n, r := range i.Routes {
		if !r.Dst.IsValid() {
			return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("ipam.routes[%d]: dst is missing or no prefix", n), "")
		}
	}
	return nil
}

// delegated reports whether another plugin hands out addresses.
func (i *ipamConfig) delegated() bool { return i.Type != "" && i.Type != ownIPAM }

// delegateAdd has the other plugin hand out addresses. When that fails it is told
// to take back what it may have given, as the specification asks.
func (i *ipamConfig) delegateAdd(ctx context.Context, stdin []byte) (*types100.Result, error) {
	answer, err := invoke.DelegateAdd(ctx, i.Type, stdin, nil)
	if err != nil {
		return nil, errors.Join(delegateError(i.Type, err), i.delegateDel(ctx, stdin))
	}
	r, err := types100.NewResultFromResult(answer)
	if err != nil {
		return nil, errors.Join(decoding(fmt.Errorf("ipam plugin %s: %w", i.Type, err)), i.delegateDel(ctx, stdin))
	}
	if len(r.IPs) == 0 {
		err := types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("ipam plugin %s gave no address", i.Type), "")
		return nil, errors.Join(err, i.delegateDel(ctx, stdin))
	}
	return r, nil
}

func (i *ipamConfig) delegateDel(ctx context.Context, stdin []byte) error {
	if !i.delegated() {
		return nil
	}
	if err := invoke.DelegateDel(ctx, i.Type, stdin, nil); err != nil {
		return delegateError(i.Type, err)
	}
	return nil
}

// delegateError passes on the other plugin's error, with its code if it has one.
func delegateError(plugin string, err error) error {
	var e *types.Error
	if errors.As(err, &e) {
		return types.NewError(e.Code, fmt.Sprintf("ipam plugin %s: %s", plugin, e.Msg), e.Details)
	}
	return types.NewError(codeNotAvailable, fmt.Sprintf("ipam plugin %s: %v", plugin, err),
		`install it in CNI_PATH, or use "ipam": {"type": "patchbay"}`)
}

// fromDelegate turns what another IPAM gave into ours.
func fromDelegate(r *types100.Result, dad bool) ([]vswitch.Address, []vswitch.Route) {
	var addresses []vswitch.Address
	for _, ip := range r.IPs {
		ones, _ := ip.Address.Mask.Size()
		addr, _ := netip.AddrFromSlice(ip.Address.IP)
		gw, _ := netip.AddrFromSlice(ip.Gateway)
		addresses = append(addresses, vswitch.Address{
			Prefix: netip.PrefixFrom(addr.Unmap(), ones), Gateway: gw.Unmap(), DAD: dad,
		})
	}
	var routes []vswitch.Route
	for _, r := range r.Routes {
		ones, _ := r.Dst.Mask.Size()
		dst, _ := netip.AddrFromSlice(r.Dst.IP)
		gw, _ := netip.AddrFromSlice(r.GW)
		routes = append(routes, vswitch.Route{
			Dst: netip.PrefixFrom(dst.Unmap(), ones), Gateway: gw.Unmap(),
			MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority, Table: r.Table, Scope: r.Scope,
		})
	}
	return addresses, routes
}
