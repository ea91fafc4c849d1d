package follow

import (
	"context"
	"net/netip"
	"slices"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
)

// leaveOthers leaves out interfaces on bridges that are called as ours are and are somebody else's. One
// that has a port is on ours.
func (l *link) leaveOthers(ctx context.Context, domains []seen, ports map[string][]vswitch.Port) error {
	for i, d := range domains {
		doubtful := func(n domain.NIC) bool {
			_, found := portOf(n, ports[d.UUID])
			return domain.OnSwitch(n.Bridge) && !found
		}
		if !slices.ContainsFunc(d.live.NICs, doubtful) {
			continue
		}
		switches, err := l.follower.Verbs.Switches(ctx)
		if err != nil {
			return err
		}
		domains[i].live.NICs = slices.DeleteFunc(d.live.NICs, func(n domain.NIC) bool {
			return doubtful(n) && !slices.ContainsFunc(switches, func(s engine.SwitchStatus) bool { return s.Bridge == n.Bridge })
		})
	}
	return nil
}

// isAsDefined reports whether a port is what a running domain says of its interface: no hook is called for one that
// is plugged in while it runs, nor where its metadata takes away more. What metadata no longer take away stays so.
func isAsDefined(p vswitch.Port, n domain.NIC) bool {
	if p.Netdev != n.Netdev || p.VM.Team != n.Team || n.Alias != "" && p.VM.Alias != n.Alias {
		return false
	}
	if n.Wish == nil {
		return true
	}
	narrowed := n.Wish.String()
	return (narrowed == "" || narrowed == p.VM.Narrowed) &&
		(n.Wish.Addresses == "" || slices.EqualFunc(n.Wish.Addresses.All(), p.Addresses, func(a netip.Addr, b vswitch.Address) bool { return a == b.Prefix.Addr() }))
}
