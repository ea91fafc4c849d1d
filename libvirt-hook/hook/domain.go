package hook

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
)

// prepare looks at what the domain wants of interfaces of no network, before anything of the
// domain is made, and makes the taps that libvirt is to find. What it wants of the others is
// looked at with the port.
func (h hook) prepare(ctx context.Context, d domain.Domain) error {
	var problems []error
	for _, n := range d.NICs {
		if n.Wish == nil || n.Wish.Switch == "" {
			continue
		}
		_, err := h.profile(ctx, n.Wish.Switch, n.Wish.Profile)
		if err == nil && n.NeedsTap() {
			err = h.verbs.MakeTap(ctx, tapOf(d, n))
		}
		problems = append(problems, about(n, err))
	}
	return errors.Join(problems...)
}

// tapOf is the tap of an interface that needs one of ours.
func tapOf(d domain.Domain, n domain.NIC) engine.TapRequest {
	return engine.TapRequest{Domain: vswitch.DomainRef{ID: d.UUID, Name: d.Name}, Name: n.Netdev, MAC: n.MAC, Queues: n.Queues}
}

// expect announces a domain that comes from another host.
func (h hook) expect(ctx context.Context, d domain.Domain) error {
	req := engine.ExpectDomainRequest{Domain: vswitch.DomainRef{ID: d.UUID, Name: d.Name}}
	if d.State != nil {
		req.State = &engine.DomainState{}
		if err := json.Unmarshal(d.State, req.State); err != nil {
			return fmt.Errorf("domain %s, from the other host: %w", d.Name, err)
		}
	}
	return errors.Join(h.verbs.ExpectDomain(ctx, req), h.prepare(ctx, d))
}

// bind tells which netdev each port of the domain has.
func (h hook) bind(ctx context.Context, d domain.Domain) error {
	if done, err := h.bindTogether(ctx, d); done {
		return err
	}
	var problems []error
	for _, n := range d.NICs {
		problems = append(problems, about(n, h.bindNIC(ctx, d, n)))
	}
	return errors.Join(problems...)
}

// bindTogether is for a domain whose NICs are all ports of libvirt networks, and that starts or
// has all it needs. done is false of any other, which has to be looked at NIC by NIC.
func (h hook) bindTogether(ctx context.Context, d domain.Domain) (done bool, err error) {
	var reqs []engine.BindPortRequest
	for _, n := range d.NICs {
		if !ofNetwork(n) {
			return false, nil
		}
		reqs = append(reqs, bindRequest(d, n, n.PortID))
	}
	if len(reqs) < 2 {
		return false, nil
	}
	ports, err := h.verbs.BindPorts(ctx, reqs)
	if err != nil {
		return false, nil //nolint:nilerr // who binds them one by one hears of which one it is
	}
	var problems []error
	for i, n := range d.NICs {
		problems = append(problems, about(n, n.Validate(ports[i].MACSpoofing)))
	}
	return true, errors.Join(problems...)
}

// ofNetwork reports whether an interface has the port of a libvirt network.
func ofNetwork(n domain.NIC) bool { return n.PortID != "" && domain.OnSwitch(n.Bridge) }

func (h hook) bindNIC(ctx context.Context, d domain.Domain, n domain.NIC) error {
	switch {
	case ofNetwork(n):
		return h.bindPort(ctx, d, n)
	case n.Network == "" && (n.Type == domain.TypeBridge && domain.OnSwitch(n.Bridge) || n.Wish != nil && n.Wish.Switch != ""):
		return h.bindDirectly(ctx, d, n)
	case n.Network != "" && n.GuestEnd != "":
		return h.bindPair(ctx, d, n)
	}
	return nil
}

// bindPair binds the port of a container, of which libvirt tells neither the port's id nor the
// host's end of the pair. One that is bound stays: the container has its end by now.
func (h hook) bindPair(ctx context.Context, d domain.Domain, n domain.NIC) error {
	ports, err := h.verbs.Ports(ctx, "")
	if err != nil {
		return err
	}
	for _, p := range ports {
		if p.Owner.Kind == vswitch.OwnerVM && p.Owner.ID == d.UUID && p.MAC == n.MAC && !p.Plugged() {
			req := bindRequest(d, n, p.Owner.Endpoint)
			req.Netdev, req.Pair = n.GuestEnd, true
			return h.bound(ctx, n, req)
		}
	}
	return nil
}

// bindPort binds the port that was reserved when libvirt made it. None was where the bridge is no switch's.
func (h hook) bindPort(ctx context.Context, d domain.Domain, n domain.NIC) error {
	err := h.bound(ctx, n, bindRequest(d, n, n.PortID))
	if !errors.Is(err, vswitch.NotFound) {
		return err
	}
	if _, found, atErr := h.switchAt(ctx, n.Bridge); !found {
		return atErr
	}
	return err
}

func bindRequest(d domain.Domain, n domain.NIC, endpoint string) engine.BindPortRequest {
	req := engine.BindPortRequest{
		Owner:  vswitch.Owner{Kind: vswitch.OwnerVM, ID: d.UUID, Endpoint: endpoint, Name: d.Name},
		Netdev: n.Netdev, Alias: n.Alias, Team: &n.Team,
	}
	if n.Wish != nil {
		req.Override, req.Addresses = n.Wish.Narrowing, n.Wish.Addresses
	}
	return req
}

// bound binds, and refuses what libvirt would do to the port besides.
func (h hook) bound(ctx context.Context, n domain.NIC, req engine.BindPortRequest) error {
	p, err := h.verbs.BindPort(ctx, req)
	if err != nil {
		return err
	}
	return n.Validate(p.MACSpoofing)
}

// bindDirectly reserves and binds the port of an interface that is of no libvirt network. One
// that libvirt has forgotten the network of (`virsh domif-setlink`) has its port already.
func (h hook) bindDirectly(ctx context.Context, d domain.Domain, n domain.NIC) error {
	s, found, err := h.switchOf(ctx, n)
	if err != nil || !found {
		return err
	}
	ports, err := h.verbs.Ports(ctx, s.Name)
	if err != nil {
		return err
	}
	for _, p := range ports {
		if p.Owner.ID == d.UUID && p.Netdev == n.Netdev && p.MAC == n.MAC {
			return h.bound(ctx, n, bindRequest(d, n, p.Owner.Endpoint))
		}
	}
	f, err := s.Profile(n.Profile())
	if err != nil {
		return err
	}
	bind := bindRequest(d, n, cmp.Or(n.Alias, strings.ReplaceAll(n.MAC.String(), ":", "-")))
	req := request(bind.Owner, s.Name, n.MAC, f)
	req.Isolated = req.Isolated || n.Isolated
	if _, err := h.verbs.ReservePort(ctx, req); err != nil {
		return err
	}
	return h.bound(ctx, n, bind)
}

// switchOf is the switch that the metadata names, or whose bridge the interface is on. A
// bridge may look like one of ours and be somebody else's.
func (h hook) switchOf(ctx context.Context, n domain.NIC) (s engine.SwitchStatus, found bool, err error) {
	if n.Wish != nil && n.Wish.Switch != "" {
		s, err = h.verbs.Switch(ctx, n.Wish.Switch)
		return s, err == nil, err
	}
	return h.switchAt(ctx, n.Bridge)
}

func (h hook) switchAt(ctx context.Context, bridge string) (s engine.SwitchStatus, found bool, err error) {
	all, err := h.verbs.Switches(ctx)
	for _, s := range all {
		if s.Bridge == bridge {
			return s, true, nil
		}
	}
	return s, false, err
}

// profile is a port profile of the switch's own.
func (h hook) profile(ctx context.Context, name, profile string) (vswitch.PortProfile, error) {
	s, err := h.verbs.Switch(ctx, name)
	if err != nil {
		return vswitch.PortProfile{}, err
	}
	return s.Profile(profile)
}

// request is a port as a profile says.
func request(o vswitch.Owner, switchName string, mac vswitch.MAC, f vswitch.PortProfile) engine.ReservePortRequest {
	return engine.ReservePortRequest{
		Owner: o, Switch: switchName, MAC: mac,
		MACSpoofing: f.MACSpoofing, VLAN: f.VLAN, Isolated: f.Isolated, Policy: f.Policy,
	}
}

// about says which interface an error is about.
func about(n domain.NIC, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("interface %s: %w", cmp.Or(n.Alias, n.MAC.String()), err)
}
