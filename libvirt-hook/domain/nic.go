package domain

import (
	"errors"
	"strings"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/network"
)

// OnSwitch reports whether a bridge is one of a switch, by its name.
func OnSwitch(bridge string) bool { return strings.HasPrefix(bridge, vswitch.BridgeName("")) }

// NeedsTap reports whether Patchbay makes the tap that the interface is to have.
func (n NIC) NeedsTap() bool {
	return n.Type == TypeEthernet && n.Premade && n.Netdev != "" && n.Wish != nil && n.Wish.Switch != ""
}

// Profile is the port profile that our metadata names, "" for none.
func (n NIC) Profile() string {
	if n.Wish == nil {
		return ""
	}
	return n.Wish.Profile
}

// Validate refuses what libvirt would do by itself to an interface on a switch. spoofing
// says that its port may send from any address.
func (n NIC) Validate(spoofing bool) error {
	var problems []error
	for _, key := range n.native {
		problems = append(problems, network.Native("interface", key, "leave it out, and have the port profile say it"))
	}
	if n.TrustsGuest && !spoofing {
		problems = append(problems, network.TrustsGuest())
	}
	if n.Filtered && !spoofing {
		problems = append(problems, &vswitch.Error{
			Kind: vswitch.Conflict, Err: errors.New("<filterref> has libvirt filter what the port's lock to its address already does"),
			Hint: "leave it out, and give the port profile an acl (docs/policy.md)",
		})
	}
	return errors.Join(problems...)
}
