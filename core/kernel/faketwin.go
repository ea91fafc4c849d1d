package kernel

import (
	"fmt"
	"syscall"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func (f *Fake) carryOutForTwin(step plan.Step) error {
	switch s := step.(type) {
	case plan.MakeTwin:
		return f.makeTwin(s.Endpoint)
	case plan.JoinTwin:
		return f.joinTwin(s)
	case plan.AwaitTwin:
		return nil // elect lets it be
	case plan.DeleteTwin:
		if link := f.twin(s.Endpoint); link != nil {
			link.remove()
		}
		return nil
	}
	return f.carryOutAtSpread(step)
}

// twin is a twin that is there; nil without.
func (f *Fake) twin(e plan.Endpoint) *fakeLink {
	ns, err := f.namespace(e.Netns)
	if err != nil {
		return nil
	}
	if link := ns.links[e.Name]; link != nil && link.Kind == "bond" && link.group == vswitch.UplinkGroup {
		return link
	}
	return nil
}

func (f *Fake) makeTwin(e plan.Endpoint) error {
	ns, err := f.namespace(e.Netns)
	switch {
	case err != nil:
		return err
	case !f.caps.Bonding:
		return refused(vswitch.CapabilityMissing, syscall.EOPNOTSUPP, "no CONFIG_BONDING")
	case ns.links[e.Name] != nil:
		return refused(vswitch.EndpointExists, syscall.EEXIST, "the container already has an interface %s", e.Name)
	}
	bond := twinBond(e)
	link := ns.add(Netdev{Name: e.Name, Kind: "bond", MAC: e.MAC, MTU: e.MTU, MaxMTU: vswitch.MaxMTU, Ethernet: true})
	link.group, link.bond.options = vswitch.UplinkGroup, bond.Options
	return nil
}

func (f *Fake) joinTwin(s plan.JoinTwin) error {
	e := s.Endpoint
	link, err := f.endpoint(plan.At{Port: s.Port, Netns: e.Netns, Name: e.Name})
	if err != nil {
		return err
	}
	bond, err := link.ns.link(e.Bond)
	if err != nil {
		return err
	}
	if bond.Kind != "bond" {
		return fmt.Errorf("%s is no bond: %w", e.Bond, syscall.EOPNOTSUPP)
	}
	link.down()
	if err := link.join(bond, 0); err != nil {
		return err
	}
	if s.Port == "" {
		bond.bond.options.Primary = e.Name
	}
	return nil
}

func (f *Fake) observeTwins(scope plan.State, seen *plan.State) {
	for id, want := range scope.Twins {
		if f.twin(want) != nil {
			put(&seen.Twins, id, *f.observeEndpoint("", want))
		}
	}
}
