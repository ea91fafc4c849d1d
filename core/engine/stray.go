package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file judges uplinks: whether they are there, and whether somebody has given them
// what they have no use for. See docs/adr/0011-live-uplink.md for why it only tells.

// judgeUplink tells of a switch's uplink what keeps it from working.
func (e *Engine) judgeUplink(ctx context.Context, r store.SwitchRecord) (Problem, bool) {
	if r.Uplink == "" {
		return Problem{}, false
	}
	nic, err := e.kernel.Netdev(ctx, r.Uplink)
	if errors.Is(err, vswitch.NotFound) {
		return e.missingUplink(ctx, r), true
	}
	if err != nil {
		return Problem{}, false
	}
	if p, strays := e.strayed(ctx, r); strays {
		return p, true
	}
	if !nic.Carrier {
		return Problem{
			Kind: vswitch.NoCarrier, Message: fmt.Sprintf("switch %s: uplink %s has no carrier", r.Name, r.Uplink),
			Hint: "check the cable and the physical switch",
		}, true
	}
	return Problem{}, false
}

// missingUplink tells what to do about an uplink that is gone, or has another name.
func (e *Engine) missingUplink(ctx context.Context, r store.SwitchRecord) Problem {
	p := Problem{
		Kind: vswitch.UplinkNotFound, Message: fmt.Sprintf("switch %s: uplink %s is not on this host any more", r.Name, r.Uplink),
		Hint: fmt.Sprintf("put the NIC back, or run `patchbay switch delete %s`", r.Name),
	}
	if n, found, err := e.renamed(ctx, r); found && err == nil {
		p.Message += fmt.Sprintf(", but the switch has %s, which may be the same", n.Name)
		p.Hint = renaming(n.Name, r.Uplink)
	}
	return p
}

// renamed is the netdev of somebody else that is in the switch though nobody asked for
// it: the uplink under another name, most likely.
func (e *Engine) renamed(ctx context.Context, r store.SwitchRecord) (kernel.Netdev, bool, error) {
	all, err := e.kernel.Netdevs(ctx)
	for _, n := range all {
		if n.Master == vswitch.BridgeName(r.Name) && !strings.HasPrefix(n.Alias, vswitch.AliasPrefix) && n.Kind != "tun" {
			return n, true, err
		}
	}
	return kernel.Netdev{}, false, err
}

func renaming(is, was string) string {
	return fmt.Sprintf("give it its name back with `ip link set %s down`, `ip link set %s name %s` and `ip link set %s up`, or take it out with `ip link set %s nomaster`", is, is, was, was, is)
}

// strayed tells of addresses and routes of the host on an uplink, or on a member of it:
// they are of no use there.
func (e *Engine) strayed(ctx context.Context, r store.SwitchRecord) (Problem, bool) {
	has, carries, err := e.livesOn(ctx, r.Uplink)
	if err != nil || len(carries) == 0 {
		return Problem{}, false
	}
	on := strings.Join(carries, ", ")
	p := Problem{
		Kind: vswitch.Drifted, Message: fmt.Sprintf("switch %s: somebody has given uplink %s addresses or routes of the host", r.Name, on),
		Hint: fmt.Sprintf("run `patchbay switch add %s --uplink %s`, which moves them to %s", r.Name, r.Uplink, vswitch.HostPortName(r.Name)),
	}
	if loss := loses(has); loss != "" {
		p.Message += " (" + loss + ")"
	}
	if !r.HostPort() {
		p.Message += ", to which the switch is closed"
		p.Hint = fmt.Sprintf("remove them with `ip addr flush dev %s`, or open the switch with `patchbay switch set %s --host-access`, which moves them to %s", carries[0], r.Name, vswitch.HostPortName(r.Name))
	}
	return p, true
}

// tellStrays logs once that an uplink has what it has no use for.
func (r *reconciler) tellStrays(ctx context.Context, s store.SwitchRecord) {
	p, strays := Problem{}, false
	if s.Uplink != "" {
		p, strays = r.strayed(ctx, s)
	}
	if !strays {
		delete(r.strays, s.Name)
		return
	}
	if r.strays[s.Name] != p.Message {
		r.strays[s.Name] = p.Message
		r.log.Warn("the host is not where it should be", "switch", s.Name, "what", p.Message, "do", p.Hint)
	}
}
