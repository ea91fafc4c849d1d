// Package hook carries out a call of the libvirt hook: it reads the XML and asks the engine
// for what follows from it. It decides nothing, and never calls libvirt, which waits for it.
package hook

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/patchbay-net/patchbay/core/api"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/core/wire"
	"github.com/patchbay-net/patchbay/libvirt-hook/call"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
	"github.com/patchbay-net/patchbay/libvirt-hook/network"
)

// Serve carries out a call with these verbs. It may be repeated. A failure's text is one
// line, which virsh shows the user: what, why, and what to do.
func Serve(ctx context.Context, verbs api.Verbs, c wire.HookCall) wire.Answer {
	h := hook{verbs: verbs}
	err := h.serve(ctx, c)
	if err == nil {
		return wire.Answer{}
	}
	return wire.Answer{Failed: true, Out: []byte(strings.ReplaceAll(err.Error(), "\n", "; "))}
}

// hook serves libvirt with our verbs.
type hook struct{ verbs api.Verbs }

func (h hook) serve(ctx context.Context, c wire.HookCall) error {
	switch {
	case !call.Does(&c):
		return nil
	case c.Driver == call.Network:
		return h.network(ctx, c)
	case c.Operation == call.Stopped, c.Operation == call.Release:
		return h.release(ctx, c)
	}
	d, err := domain.Parse(c.Stdin)
	if err != nil {
		return err
	}
	switch c.Operation {
	case call.Prepare, call.Restore:
		return h.prepare(ctx, d)
	case call.Migrate:
		return h.expect(ctx, d)
	}
	return h.bind(ctx, d)
}

// network serves the calls about a network and its ports.
func (h hook) network(ctx context.Context, c wire.HookCall) error {
	n, p, err := network.ParseHook(c.Stdin)
	if err != nil {
		return err
	}
	if !n.Ours() {
		return h.nameless(ctx, c, n)
	}
	switch {
	case c.Operation == call.Start:
		if err := n.Validate(); err != nil {
			return err
		}
		return h.verbs.CanAttach(ctx, n.Switch, nil)
	case p == nil:
		return &vswitch.Error{Kind: vswitch.Invalid, Object: "network " + n.Name, Err: errors.New("libvirt names no port")}
	case c.Operation == call.PortDeleted:
		return h.verbs.ReleasePort(ctx, owner(*p))
	}
	return h.reserve(ctx, n, *p)
}

// nameless refuses a network on the bridge of a switch that does not name the switch: its
// guests would have ports that nobody has reserved.
func (h hook) nameless(ctx context.Context, c wire.HookCall, n network.Network) error {
	if !domain.OnSwitch(n.Bridge) || !call.MayFail(&c) {
		return nil
	}
	s, found, err := h.switchAt(ctx, n.Bridge)
	if err != nil || !found {
		return err
	}
	return &vswitch.Error{
		Kind: vswitch.Invalid, Object: "network " + n.Name, Err: fmt.Errorf("bridge %s is a switch's, and the network's metadata does not name switch %s", n.Bridge, s.Name),
		Hint: fmt.Sprintf("define it with `%s`", vswitch.ShellWords("patchbay", "libvirt", "network", s.Name, "--name", n.Name, "--define")),
	}
}

// reserve asks for a port with what its profile says.
func (h hook) reserve(ctx context.Context, n network.Network, p network.Port) error {
	f, err := n.Profile(p.Group)
	if err != nil {
		return err
	}
	if err := errors.Join(n.Validate(), p.Validate(f.MACSpoofing)); err != nil {
		return err
	}
	req := request(owner(p), n.Switch, p.MAC, f)
	req.Isolated = req.Isolated || p.Isolated
	_, err = h.verbs.ReservePort(ctx, req)
	return err
}

// owner is who a port of a network serves.
func owner(p network.Port) vswitch.Owner {
	return vswitch.Owner{Kind: vswitch.OwnerVM, ID: p.OwnerUUID, Endpoint: p.UUID, Name: p.OwnerName}
}

// release lets go of all that a domain has, whatever else its definition says.
func (h hook) release(ctx context.Context, c wire.HookCall) error {
	_, id, err := domain.ParseID(c.Stdin)
	if err != nil {
		return err
	}
	err = h.verbs.ReleaseDomain(ctx, id)
	d, _ := domain.Parse(c.Stdin) // as far as it can be read
	for _, n := range d.NICs {
		if n.NeedsTap() {
			err = errors.Join(err, h.verbs.DeleteTap(ctx, tapOf(d, n)))
		}
	}
	return err
}
