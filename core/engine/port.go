package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Ports lists the ports of a switch, or of all if sw is empty: per switch the
// host's first, then by owner. PowerShell twin: Get-VMNetworkAdapter.
func (e *Engine) Ports(_ context.Context, sw string) ([]vswitch.Port, error) {
	ports := []vswitch.Port{}
	err := e.store.View(func(tx *store.Tx) error {
		records, err := tx.Switches()
		if err != nil {
			return err
		}
		found := sw == ""
		for _, r := range records {
			if sw != "" && r.Name != sw {
				continue
			}
			found = true
			of, err := portsOf(tx, r)
			if err != nil {
				return err
			}
			ports = append(ports, of...)
		}
		if !found {
			_, err = tx.Switch(sw)
		}
		return err
	})
	return ports, fault("port list", "", err)
}

// portsOf is a switch's ports, the host's first.
func portsOf(tx *store.Tx, r store.SwitchRecord) ([]vswitch.Port, error) {
	var ports []vswitch.Port
	if r.HostPort() {
		ports = append(ports, hostPort(r))
	}
	guests, err := tx.PortsOf(r.Name)
	slices.SortFunc(guests, func(a, b vswitch.Port) int {
		return strings.Compare(a.Owner.ID+"/"+a.Owner.Endpoint, b.Owner.ID+"/"+b.Owner.Endpoint)
	})
	return append(ports, guests...), err
}

// Port returns one port with its drift. It is named by its ID, by its owner's id
// or a VM's name, or by the beginning of one that fits no other.
func (e *Engine) Port(ctx context.Context, name string) (PortStatus, error) {
	p, err := e.findPort(name)
	if err != nil {
		return PortStatus{}, fault("port show", "port "+name, err)
	}
	steps, err := e.repairs(ctx, p)
	if err != nil {
		return PortStatus{}, fault("port show", "port "+name, err)
	}
	status := PortStatus{Port: p}
	if p.Policy.Mirror == vswitch.MirrorSource {
		err := e.store.View(func(tx *store.Tx) error {
			r, err := tx.Switch(p.Switch)
			if err != nil {
				return err
			}
			mirrors, err := mirrorsOf(tx, r)
			status.MirroredTo = mirrors[p.Netdev].Destinations
			return err
		})
		if err != nil {
			return PortStatus{}, fault("port show", "port "+name, err)
		}
	}
	if status.Minimum, err = e.minimumOf(ctx, p); err != nil {
		return PortStatus{}, fault("port show", "port "+name, err)
	}
	if status.Offload, err = e.offloadsOf(ctx, p); err != nil {
		return PortStatus{}, fault("port show", "port "+name, err)
	}
	for _, s := range steps {
		status.Drift = append(status.Drift, s.String())
	}
	return status, nil
}

func (e *Engine) findPort(name string) (vswitch.Port, error) {
	ports, err := e.Ports(context.Background(), "")
	if err != nil {
		return vswitch.Port{}, err
	}
	var matches []vswitch.Port
	for _, p := range ports {
		if p.ID == name || (p.Owner.ID == name || p.Owner.Name == name && name != "") && p.Owner.Kind != vswitch.OwnerHost {
			matches = append(matches, p)
		}
	}
	if len(matches) == 0 && len(name) >= 2 {
		for _, p := range ports {
			if strings.HasPrefix(p.ID, name) || (strings.HasPrefix(p.Owner.ID, name) || strings.HasPrefix(p.Owner.Name, name)) && p.Owner.Kind != vswitch.OwnerHost {
				matches = append(matches, p)
			}
		}
	}
	switch len(matches) {
	case 1:
		return matches[0], nil
	case 0:
		return vswitch.Port{}, &vswitch.Error{Kind: vswitch.NotFound, Err: fmt.Errorf("there is no such port"), Hint: "run `patchbay port list`"}
	}
	return vswitch.Port{}, &vswitch.Error{
		Kind: vswitch.Conflict, Err: fmt.Errorf("%d ports fit, %s and %s among them", len(matches), matches[0].ID, matches[1].ID),
		Hint: "name the port by its whole ID from `patchbay port list`",
	}
}

// Check returns what would have to be done for the owner's port and its switch to
// be as they should be; no step means that all is well. NotFound if the owner has
// no port.
func (e *Engine) Check(ctx context.Context, owner vswitch.Owner) (Check, error) {
	var p vswitch.Port
	err := e.store.View(func(tx *store.Tx) (err error) {
		p, err = tx.Port(owner.PortID())
		return err
	})
	if err != nil {
		return Check{}, fault("check", owner.String(), err)
	}
	if owner.Netns != "" {
		p.Owner.Netns = owner.Netns // where the runtime says that the container is
	}
	steps, err := e.repairs(ctx, p)
	return Check{Port: p, Steps: steps}, fault("check", owner.String(), err)
}

// repairs is the plan from what the kernel shows of a port and its switch to what
// both should be.
func (e *Engine) repairs(ctx context.Context, p vswitch.Port) ([]plan.Step, error) {
	r, err := e.record(p.Switch)
	if err != nil {
		return nil, err
	}
	caps, err := e.capabilities(ctx)
	if err != nil {
		return nil, err
	}
	desired, err := e.desired(&transaction{caps: caps, changes: []change{{new: &r}}})
	if err != nil {
		return nil, err
	}
	if p.Owner.Kind != vswitch.OwnerHost {
		desired = plan.Union(attachedState(p, r, caps), desired)
	}
	observed, err := e.kernel.Observe(ctx, plan.Union(desired, earlierRules(p)))
	if err != nil {
		return nil, err
	}
	excuse(p, observed)
	return unshadowed(plan.Diff(desired, observed), observed.Ports[p.Netdev].Endpoint), nil
}

// unshadowed leaves out routes that another network of the container has brought
// before: adding them again would change nothing.
func unshadowed(steps []plan.Step, end *plan.Endpoint) []plan.Step {
	return slices.DeleteFunc(steps, func(s plan.Step) bool {
		add, ok := s.(plan.AddRoute)
		return ok && end != nil && slices.ContainsFunc(end.Shadowed, func(r vswitch.Route) bool {
			return plan.RouteKey(r) == plan.RouteKey(add.Route)
		})
	})
}

// excuse takes for granted what an owner, or a plugin behind ours in its chain,
// may do with its own end: lower the MTU, and take another MAC address where it
// may send from any.
func excuse(p vswitch.Port, observed plan.State) {
	if vf, there := observed.Lent[p.ID]; there && vf.Endpoint.MTU < p.MTU {
		vf.Endpoint.MTU = p.MTU
		observed.Lent[p.ID] = vf
	}
	if twin, there := observed.Twins[p.ID]; there {
		twin.MTU = max(twin.MTU, p.MTU)
		if p.MACSpoofing {
			twin.MAC = p.MAC
		}
		observed.Twins[p.ID] = twin
	}
	end := observed.Ports[p.Netdev].Endpoint
	if end == nil || p.Owner.Kind == vswitch.OwnerHost {
		return
	}
	if end.MTU < p.MTU {
		end.MTU = p.MTU
	}
	if p.MACSpoofing {
		end.MAC = p.MAC
	}
}

// Attached returns the port that an owner has, if it has one. It reads the store
// alone.
func (e *Engine) Attached(_ context.Context, owner vswitch.Owner) (p vswitch.Port, found bool, err error) {
	err = e.store.View(func(tx *store.Tx) error {
		p, err = tx.Port(owner.PortID())
		return err
	})
	if errors.Is(err, vswitch.NotFound) {
		return p, false, nil
	}
	return p, err == nil, fault("port show", owner.String(), err)
}
