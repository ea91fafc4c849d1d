package plugin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/core/wire"
)

// check compares the attachment with what it should be: the steps that are
// missing are the message.
func (p plugin) check(ctx context.Context, args wire.Call) error {
	c, err := parse(args.Stdin)
	if err != nil {
		return cniError(err)
	}
	prev, err := c.previous()
	if err != nil {
		return cniError(err)
	}
	if prev == nil {
		return types.NewError(types.ErrInvalidNetworkConfig, "CHECK needs a prevResult", "")
	}
	if err := c.IPAM.call(ctx, invoke.DelegateCheck, args.Stdin); err != nil {
		return err
	}
	owner := ownerOf(c.Name, args)
	found, err := p.client.Check(ctx, owner)
	if err != nil {
		return cniError(err)
	}
	if err := listed(found.Port, owner.Netns, prev); err != nil {
		return err
	}
	if len(found.Steps) == 0 {
		return nil
	}
	words := make([]string, len(found.Steps))
	for i, s := range found.Steps {
		words[i] = s.String()
	}
	return types.NewError(codeDrift, "the attachment is not as it should be; to repair it: "+strings.Join(words, "; "),
		"have the runtime delete and add the attachment again")
}

// listed compares what we know of the port with what the runtime was told.
func listed(p vswitch.Port, netns string, prev *types100.Result) error {
	for _, a := range p.Addresses {
		if !slices.ContainsFunc(prev.IPs, func(ip *types100.IPConfig) bool { return ip.Address.String() == a.Prefix.String() }) {
			return types.NewError(codeDrift, fmt.Sprintf("prevResult lacks address %s of the attachment", a.Prefix), "")
		}
	}
	at := slices.IndexFunc(prev.Interfaces, func(i *types100.Interface) bool { return i.Sandbox != "" && i.Name == p.Owner.Endpoint })
	if at < 0 {
		if p.Adopted {
			return nil // its guest may have no namespace that a result could name
		}
		return types.NewError(codeDrift, fmt.Sprintf("prevResult lacks interface %s of the attachment", p.Owner.Endpoint), "")
	}
	told := prev.Interfaces[at]
	if mac, err := vswitch.ParseMAC(told.Mac); told.Mac != "" && !p.MACSpoofing && (err != nil || mac != p.MAC) {
		return types.NewError(codeDrift, fmt.Sprintf("prevResult has %s as the MAC address of %s, the attachment has %s", told.Mac, told.Name, p.MAC), "")
	}
	if !p.Adopted && told.Sandbox != netns && !sameFile(told.Sandbox, netns) {
		return types.NewError(codeDrift, fmt.Sprintf("prevResult has %s in %s, CNI_NETNS is %s", told.Name, told.Sandbox, netns), "")
	}
	return nil
}
