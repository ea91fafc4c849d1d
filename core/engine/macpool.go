package engine

import (
	"context"
	"fmt"
	"strings"

	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// MACPool describes the pool of dynamic addresses.
// PowerShell twin: Get-VMHost | select MacAddressMinimum, MacAddressMaximum.
func (e *Engine) MACPool(context.Context) (PoolStatus, error) {
	var s PoolStatus
	err := e.store.View(func(tx *store.Tx) (err error) {
		s, err = poolStatus(tx)
		return err
	})
	return s, fault("mac pool show", "", err)
}

func poolStatus(tx *store.Tx) (PoolStatus, error) {
	r, isDefault, err := tx.MACRange()
	if err != nil {
		return PoolStatus{}, err
	}
	counts, err := tx.MACCounts()
	return PoolStatus{
		MACRange: r, Size: r.Size(), Default: isDefault,
		Used: counts.Used, Outside: counts.Outside, Static: counts.Static, Quarantined: counts.Quarantined,
	}, err
}

// SetMACPool changes the range. Whoever holds an address keeps it; a range with a
// static address in use in it, or the address of a NIC or VF of the host, is
// refused (MACPoolRange), naming the address.
// PowerShell twin: Set-VMHost -MacAddressMinimum -MacAddressMaximum.
func (e *Engine) SetMACPool(ctx context.Context, r vswitch.MACRange) (PoolStatus, error) {
	var s PoolStatus
	err := r.Validate()
	if err == nil {
		err = e.withoutNICs(ctx, r)
	}
	if err == nil {
		err = e.store.UpdateConfig(func(tx *store.Tx) (err error) {
			if err := tx.SetMACRange(r); err != nil {
				return err
			}
			s, err = poolStatus(tx)
			return err
		})
	}
	return s, fault("mac pool set", "", err)
}

// withoutNICs refuses a range with an address that the host's hardware has.
func (e *Engine) withoutNICs(ctx context.Context, r vswitch.MACRange) error {
	netdevs, err := e.kernel.Netdevs(ctx)
	for _, n := range netdevs {
		if strings.HasPrefix(n.Alias, vswitch.AliasPrefix) {
			continue
		}
		for _, mac := range append([]vswitch.MAC{n.MAC}, n.VFs...) {
			if r.Contains(mac) {
				return &vswitch.Error{
					Kind: vswitch.MACPoolRange, Object: "MAC pool",
					Err: fmt.Errorf("range %s contains %s, the address of %s or a VF of it", r, mac, n.Name), Hint: "choose a range without it",
				}
			}
		}
	}
	return err
}

// MACs lists the addresses held, in order.
func (e *Engine) MACs(context.Context) ([]MACLease, error) {
	leases := []MACLease{}
	err := e.store.View(func(tx *store.Tx) error {
		ports, err := allPorts(tx)
		if err != nil {
			return err
		}
		held, err := tx.MACs()
		if err != nil {
			return err
		}
		holds, err := tx.MACHolds()
		if err != nil {
			return err
		}
		leases = macLeases(held, holds, ports)
		return nil
	})
	return leases, fault("mac list", "", err)
}

// macLeases are addresses with who has them. Those of VMs are not a port's but the VM's, which
// may have several ports with one address, or none.
func macLeases(held []store.MACLease, holds []vswitch.MACHold, ports map[string]vswitch.Port) []MACLease {
	running := make(map[vswitch.MAC]vswitch.Port)
	for _, p := range ports {
		if was, other := running[p.MAC]; p.Owner.Kind == vswitch.OwnerVM && (!other || was.ID > p.ID) {
			running[p.MAC] = p
		}
	}
	kept := make(map[vswitch.MAC]vswitch.MACHold)
	for _, h := range holds {
		kept[h.MAC] = h
	}
	all := make([]MACLease, 0, len(held))
	for _, h := range held {
		p, isPort := ports[h.Port]
		if !isPort {
			p = running[h.MAC]
		}
		l := MACLease{MAC: h.MAC, Static: h.Static, Port: h.Port, Switch: p.Switch, Owner: p.Owner.String()}
		if !isPort {
			l.Port = p.ID
		}
		if hold, is := kept[h.MAC]; is {
			l.Held, l.NIC, l.Domain, l.Driver, l.Owner = true, hold.NIC, hold.Domain, hold.Driver, hold.Domain.String()
		}
		all = append(all, l)
	}
	return all
}

// allPorts is every port, the host's too, by ID.
func allPorts(tx *store.Tx) (map[string]vswitch.Port, error) {
	guests, err := tx.Ports()
	if err != nil {
		return nil, err
	}
	ports := make(map[string]vswitch.Port, len(guests))
	for _, p := range guests {
		ports[p.ID] = p
	}
	records, err := tx.Switches()
	for _, r := range records {
		if r.HostPort() {
			p := hostPort(r)
			ports[p.ID] = p
		}
	}
	return ports, err
}
