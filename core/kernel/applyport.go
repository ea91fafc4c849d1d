package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func (a *applier) createVeth(step int, p plan.Port) error {
	bridge, err := a.index(step, "", p.Bridge)
	if err != nil {
		return err
	}
	netns := -1
	if path := p.Endpoint.Netns; path != "" {
		n, err := a.namespace(path)
		if err != nil {
			return err
		}
		netns = int(n.file.Fd())
	}
	err = a.queue("", request{
		NetlinkRequest: newVeth(p, bridge, netns), step: step,
		explain: func(err error) error { return a.explainVeth(p, err) },
	})
	if err != nil {
		return err
	}
	// The answer tells the pair's numbers: the owner's end is the peer.
	key, peer := linkKey{"", p.Name}, linkKey{p.Endpoint.Netns, p.Endpoint.Name}
	a.links[key], a.links[peer] = link{}, link{}
	a.born[key], a.born[peer] = true, !p.Trunk // a trunk's other end is still to become a port
	err = a.queue("", request{
		NetlinkRequest: getLink(p.Name), step: step,
		answer: func(b []byte) {
			l := parseLink(b)
			a.links[key], a.links[peer] = l, link{index: l.peer, name: p.Endpoint.Name}
		},
	})
	if err != nil {
		return err
	}
	return a.outside(func() error { withoutIPv6(p.Name); return nil })
}

// withoutIPv6 switches IPv6 off on a switch's end, which forwards and says nothing itself.
// With it the kernel keeps a route of multicast for each, in one list that it walks
// whenever one of them comes or goes: with 4000 ports a sixth of an ADD's time and a quarter of
// a DEL's. Nothing else depends on it: where it cannot be done (no IPv6, a /proc/sys that is
// read-only) that is all that is lost.
func withoutIPv6(netdev string) {
	fd, err := unix.Open("/proc/sys/net/ipv6/conf/"+netdev+"/disable_ipv6", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	_, _ = unix.Write(fd, []byte("1"))
	_ = unix.Close(fd)
}

// explainVeth tells which of the pair's two names is taken.
func (a *applier) explainVeth(p plan.Port, err error) error {
	if !errors.Is(err, unix.EEXIST) {
		return explainLimit(err)
	}
	c, dialErr := dialRTNL()
	if dialErr != nil {
		return err
	}
	defer c.close()
	if _, lookup := c.link(p.Name); lookup == nil {
		return &vswitch.Error{Kind: vswitch.AlreadyExists, Err: fmt.Errorf("netdev %s exists: %w", p.Name, err)}
	}
	return &vswitch.Error{
		Kind: vswitch.EndpointExists, Err: fmt.Errorf("the container already has an interface %s: %w", p.Endpoint.Name, err),
		Hint: "give the attachment another interface name (CNI_IFNAME)",
	}
}

func (a *applier) setPort(step int, s plan.SetPort) error {
	p := s.Port
	fresh := a.born[linkKey{"", p.Name}]
	if p.Bridge != "" && !fresh {
		bridge, err := a.index(step, "", p.Bridge)
		if err != nil {
			return err
		}
		if err := a.send(step, setMaster(p.Name, bridge)); err != nil {
			return err
		}
	}
	messages := setPort(p, fresh)
	if p.Bridge == "" || p.VLANs.IsZero() {
		return a.send(step, messages...)
	}
	if err := a.send(step, messages[0]); err != nil {
		return err
	}
	index, err := a.index(step, "", p.Name)
	if err != nil {
		return err
	}
	if err := a.send(step, setVLANs(index, p, fresh)); err != nil {
		return err
	}
	if len(s.Leave) > 0 {
		messages = append(messages, leaveVLANs(index, s.Leave, false))
	}
	return a.send(step, messages[1:]...)
}

func (a *applier) filterVLANs(step int, s plan.FilterVLANs) error {
	index, err := a.index(step, "", s.Bridge)
	if err != nil {
		return err
	}
	return a.send(step, filterVLANs(s), leaveVLANs(index, vswitch.VLANSet{{First: vswitch.MinVLAN, Last: vswitch.MaxVLAN}}, true))
}

func (a *applier) addFDB(step int, s plan.AddFDB) error {
	index, err := a.index(step, "", s.Port)
	if err != nil {
		return err
	}
	return a.queue("", request{
		NetlinkRequest: fdbEntry(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, index, plan.Entry{MAC: s.MAC, VLAN: s.VLAN}), step: step,
		explain: func(err error) error {
			if errors.Is(err, unix.EOPNOTSUPP) {
				return &vswitch.Error{Kind: vswitch.Drifted, Err: fmt.Errorf("netdev %s is in no bridge any more: %w", s.Port, err)}
			}
			return err
		},
	})
}

func (a *applier) deleteFDB(step int, s plan.DeleteFDB) error {
	index, err := a.index(step, "", s.Port)
	if errors.Is(err, vswitch.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return a.remove(step, "", fdbEntry(unix.RTM_DELNEIGH, 0, index, plan.Entry{MAC: s.MAC, VLAN: s.VLAN}))
}
