package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// delegated reports whether another plugin hands out addresses.
func (i *ipamConfig) delegated() bool { return i.Type != "" && i.Type != ownIPAM }

// addresses has another IPAM plugin, if the network has one, hand out what the
// request is to have. An owner that is attached keeps what it has: to ask again
// would be an error to most plugins, and to take back what they gave then would
// free a live lease. lease is what was given now, or nil.
func (p plugin) addresses(ctx context.Context, c *config, stdin []byte, req *engine.AttachRequest) (lease *types100.Result, err error) {
	if !c.IPAM.delegated() {
		return nil, nil
	}
	port, attached, err := p.client.Attached(ctx, req.Owner)
	if err != nil {
		return nil, err
	}
	if attached {
		req.Addresses, req.Routes = port.Addresses, port.Routes
		return nil, nil
	}
	lease, err = c.IPAM.add(ctx, stdin)
	if err == nil {
		err = c.IPAM.request(lease, req)
	}
	if err != nil {
		return nil, joined(err, p.giveBack(ctx, c, stdin, req.Owner))
	}
	return lease, nil
}

// giveBack has the other plugin take back what it gave, or may have given before
// it failed, as the specification asks; unless the owner is attached by now, by
// an ADD beside this one.
func (p plugin) giveBack(ctx context.Context, c *config, stdin []byte, owner vswitch.Owner) error {
	if _, attached, err := p.client.Attached(ctx, owner); err == nil && attached {
		return nil
	}
	return c.IPAM.call(ctx, invoke.DelegateDel, stdin)
}

func (i *ipamConfig) add(ctx context.Context, stdin []byte) (*types100.Result, error) {
	answer, err := invoke.DelegateAdd(ctx, i.Type, stdin, nil)
	if err != nil {
		return nil, i.failed(err)
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return nil, i.failed(err)
	}
	var raw map[string]any
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, i.failed(err)
	}
	if err := noNulls("the result", raw); err != nil {
		return nil, i.failed(err)
	}
	r, err := types100.NewResultFromResult(answer)
	if err != nil {
		return nil, i.failed(err)
	}
	if len(r.IPs) == 0 {
		return nil, i.failed(types.NewError(codeDelegate, "it gave no address", ""))
	}
	return r, nil
}

// call runs one of the library's verbs without a result, if there is a plugin to
// run it with.
func (i *ipamConfig) call(ctx context.Context, verb func(context.Context, string, []byte, invoke.Exec) error, stdin []byte) error {
	if !i.delegated() {
		return nil
	}
	return i.failed(verb(ctx, i.Type, stdin, nil))
}

// failed passes on the other plugin's error, with its code if that tells
// anything: 0 and 999 do not.
func (i *ipamConfig) failed(err error) error {
	if err == nil {
		return nil
	}
	if _, missing := invoke.FindInPath(i.Type, filepath.SplitList(os.Getenv("CNI_PATH"))); missing != nil {
		return types.NewError(codeNotAvailable, fmt.Sprintf("ipam plugin %s: %v", i.Type, missing),
			`install it in CNI_PATH, or use "ipam": {"type": "patchbay"}`)
	}
	e := &types.Error{Code: codeDelegate, Msg: err.Error()}
	if errors.As(err, &e) && (e.Code == types.ErrUnknown || e.Code == types.ErrInternal) {
		e = types.NewError(codeDelegate, e.Msg, e.Details)
	}
	return types.NewError(e.Code, fmt.Sprintf("ipam plugin %s: %s", i.Type, e.Msg), e.Details)
}

// request turns what the other plugin gave into ours.
func (i *ipamConfig) request(lease *types100.Result, req *engine.AttachRequest) error {
	for _, ip := range lease.IPs {
		gateway, _ := netip.AddrFromSlice(ip.Gateway)
		a := vswitch.Address{Prefix: prefix(ip.Address), Gateway: gateway.Unmap(), DAD: i.DAD}
		if !a.Prefix.IsValid() {
			return i.failed(types.NewError(codeDelegate, fmt.Sprintf("it gave %s, which is no address", ip.Address.String()), ""))
		}
		req.Addresses = append(req.Addresses, a)
	}
	for _, r := range lease.Routes {
		gateway, _ := netip.AddrFromSlice(r.GW)
		route := vswitch.Route{
			Dst: prefix(r.Dst), Gateway: gateway.Unmap(),
			MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority, Table: r.Table, Scope: r.Scope,
		}
		if !route.Dst.IsValid() {
			return i.failed(types.NewError(codeDelegate, fmt.Sprintf("it gave a route to %s, which is no subnet", r.Dst.String()), ""))
		}
		req.Routes = append(req.Routes, route)
	}
	return nil
}

// prefix is package net's prefix as netip has it, invalid if it is none.
func prefix(n net.IPNet) netip.Prefix {
	addr, _ := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if addr = addr.Unmap(); bits != addr.BitLen() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(addr, ones)
}
