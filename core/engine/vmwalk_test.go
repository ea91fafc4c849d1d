package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// taps does with taps what libvirt does, on either kernel.
type taps interface {
	plug(name string, mac vswitch.MAC, bridge string) // or moves it
	unplug(name string)
}

func tapsOf(t *testing.T, k kernel.Kernel) taps {
	if f, fake := k.(*kernel.Fake); fake {
		return &fakeTaps{Fake: f, made: make(map[string]kernel.Netdev)}
	}
	return realTaps{&hypervisor{t: t, vms: make(map[string]*os.File)}}
}

type fakeTaps struct {
	*kernel.Fake
	made map[string]kernel.Netdev
	last int
}

func (f *fakeTaps) plug(name string, mac vswitch.MAC, bridge string) {
	f.unplug(name)
	f.last++
	f.made[name] = kernel.Netdev{Name: name, Index: 1000 + f.last, Kind: "tun", MAC: mac.TapMAC(), MTU: 1500, Master: bridge, Ethernet: true, Up: true, Carrier: true}
	f.AddNetdev(f.made[name])
}

func (f *fakeTaps) unplug(name string) { f.RemoveNetdev(name) }

type realTaps struct{ *hypervisor }

func (r realTaps) plug(name string, mac vswitch.MAC, bridge string) {
	if _, err := r.links().LinkByName(bridge); err != nil {
		return // the switch is not there
	}
	if r.vms[name] != nil {
		r.move(name, bridge)
		return
	}
	r.hypervisor.plug(name, mac, bridge)
}

func (r realTaps) unplug(name string) { r.hypervisor.unplug(name) }

// walkVMs is how many VMs there are, each with a tap of its own and two ports that may have it.
const walkVMs = 2

func (w *walker) vm(i, port int) vswitch.Owner {
	return vswitch.Owner{Kind: vswitch.OwnerVM, ID: fmt.Sprint("domain-", i), Endpoint: fmt.Sprint("p", port), Name: fmt.Sprint("vm", i)}
}

// vmVerb chooses what to do with a VM.
func (w *walker) vmVerb(name string) (string, func() error) {
	ctx := context.Background()
	i := w.random.IntN(walkVMs)
	o, tap, mac := w.vm(i, w.random.IntN(2)), fmt.Sprint("vnet", i), vswitch.MAC{0x52, 0x54, 0, 0xdd, 0, byte(i)}
	switch w.random.IntN(12) {
	case 9, 10, 11: // start it, from the first hook to the last
		req := engine.ReservePortRequest{Owner: o, Switch: name, MAC: mac, VLAN: w.vlan(), Policy: w.policy()}
		return fmt.Sprintf("start %s %s on %s", o, o.Endpoint, name), func() error {
			if _, err := w.ReservePort(ctx, req); err != nil {
				return err
			}
			w.taps.plug(tap, mac, vswitch.BridgeName(name))
			_, err := w.BindPort(ctx, engine.BindPortRequest{Owner: o, Netdev: tap})
			return err
		}
	case 0:
		return "plug " + tap + " into " + name, func() error { w.taps.plug(tap, mac, vswitch.BridgeName(name)); return nil }
	case 1:
		return "unplug " + tap, func() error { w.taps.unplug(tap); return nil }
	case 2, 3:
		req := engine.ReservePortRequest{Owner: o, Switch: name, MAC: mac, VLAN: w.vlan(), Isolated: w.random.IntN(4) == 0, Policy: w.policy()}
		return fmt.Sprintf("reserve %s %s on %s", o, o.Endpoint, name), func() error {
			_, err := w.ReservePort(ctx, req)
			if err == nil && w.random.IntN(2) == 0 {
				w.taps.plug(tap, mac, vswitch.BridgeName(name))
			}
			return err
		}
	case 4, 5:
		return fmt.Sprintf("bind %s %s to %s", o, o.Endpoint, tap), func() error {
			if p, known, _ := w.Attached(ctx, o); known && w.random.IntN(4) > 0 {
				w.taps.plug(tap, mac, vswitch.BridgeName(p.Switch))
			}
			_, err := w.BindPort(ctx, engine.BindPortRequest{Owner: o, Netdev: tap})
			return err
		}
	case 6:
		return fmt.Sprintf("release %s %s", o, o.Endpoint), func() error { return w.ReleasePort(ctx, o) }
	case 7:
		return "release " + o.String(), func() error { return w.ReleaseDomain(ctx, o.ID) }
	default:
		return "expect or activate " + o.String(), func() error {
			if w.random.IntN(2) == 0 {
				return w.ExpectDomain(ctx, engine.ExpectDomainRequest{Domain: o.Domain()})
			}
			_, err := w.ActivateDomain(ctx, o.ID)
			return err
		}
	}
}

// vmsSettled binds each VM's port anew, as libvirt's hook does when libvirtd is started again, and
// compares it with its record.
func (w *walker) vmsSettled() {
	ctx := context.Background()
	w.t.Helper()
	for i := range walkVMs {
		for port := range 2 {
			o := w.vm(i, port)
			p, known, err := w.Attached(ctx, o)
			must(w.t, err)
			if !known || !p.Plugged() {
				continue
			}
			_, err = w.BindPort(ctx, engine.BindPortRequest{Owner: o, Netdev: p.Netdev})
			if errors.Is(err, vswitch.NotFound) || errors.Is(err, vswitch.InUse) { // its tap is gone, or elsewhere
				must(w.t, w.ReleasePort(ctx, o))
				continue
			}
			must(w.t, err)
			if c, err := w.Check(ctx, o); err != nil || len(c.Steps) > 0 {
				w.t.Errorf("%s %s: %v, %v", o, o.Endpoint, c.Steps, err)
			}
			w.bound++
		}
	}
}
