package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/host"
	"github.com/patchbay-net/patchbay/sdk/host/fleet"
)

// stumbling is a NIC whose plugin cannot tell its NICs, or events, the first time.
type stumbling struct {
	*nic
	inventories, events atomic.Int32
	err                 func(context.Context) error
}

func (s *stumbling) WatchInventory(ctx context.Context, tell func(sdk.Inventory) error) error {
	if s.inventories.Add(1) == 1 {
		return s.err(ctx)
	}
	return s.nic.WatchInventory(ctx, tell)
}

func (s *stumbling) WatchEvents(ctx context.Context, tell func(sdk.Event) error) error {
	if s.events.Add(1) == 1 {
		return s.err(ctx)
	}
	if err := tell(sdk.Event{Kind: sdk.NICReset, NIC: "example-0", Time: time.Now()}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// An error that a plugin has once does not end what it tells.
func TestPluginThatStumbles(t *testing.T) {
	for name, err := range map[string]func(context.Context) error{
		"an error": func(context.Context) error { return errors.New("read NICs: interrupted system call") },
		"a limit of its own": func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			<-ctx.Done()
			return fmt.Errorf("ask the firmware: %w", ctx.Err())
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := &stumbling{nic: newNIC(t, sdk.Config{"nics": 1, "vfs": 1, "queues": 1, "netdevs": []string{"nic0"}}), err: err}
			client, shut, err := host.InMemory(p, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer shut()
			events := make(chan struct{}, 1)
			f := fleet.New(slog.New(tells{events}))
			defer f.Close()
			changed := make(chan string, 64)
			go f.Watch(t.Context(), func(plugin string) { changed <- plugin })
			f.Add("stumbling", client)
			limit := time.After(patience)
			for told := false; !told; {
				select {
				case <-changed:
					has := f.Look(t.Context())
					told = len(has.NICs) == 1 && len(has.Failed) == 0
				case <-limit:
					t.Fatalf("asked %d times; %+v", p.inventories.Load(), f.Look(t.Context()))
				}
			}
			select {
			case <-events:
			case <-limit:
				t.Errorf("asked for events %d times", p.events.Load())
			}
		})
	}
}

// moody is a plugin that tells its NICs, or fails to, as often as it is bidden.
type moody struct {
	*nic
	well chan bool
}

func (m *moody) WatchInventory(ctx context.Context, tell func(sdk.Inventory) error) error {
	for {
		select {
		case well := <-m.well:
			if !well {
				return errNoFirmware
			}
			if err := tell(sdk.Inventory{NICs: []sdk.NIC{{ID: "moody-0", Netdev: "other1"}}}); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A NIC that nobody serves may be of a plugin that failed, unless that one has said which are.
func TestNICThatAFailedPluginMayServe(t *testing.T) {
	l := newLab(t, sdk.Config{"vfs": 1, "queues": 4})
	p := &moody{nic: newNIC(t, sdk.Config{"nics": 1, "vfs": 1, "queues": 1, "netdevs": []string{"other1"}}), well: make(chan bool)}
	client, shut, err := host.InMemory(p, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shut)
	port := l.mustAttach(0, weight(10))
	l.fleet.Add("moody", client)
	p.well <- false
	l.await(port, vswitch.VMQ, "yes")
	l.nic.become(func(n *sdk.NIC) { n.Netdev = "other0" })
	l.await(port, vswitch.VMQ, "PROVIDER_FAILED")
	p.well <- true
	l.await(port, vswitch.VMQ, "NO_PROVIDER")
	p.well <- false
	l.until("the plugin has failed again", func() (bool, string) {
		return len(l.fleet.Look(t.Context()).Failed) == 1, "not"
	})
	l.nic.become(func(n *sdk.NIC) { n.Capabilities.VMQ = vswitch.Capability{Missing: vswitch.NoDriverSupport} })
	l.await(port, vswitch.VMQ, "NO_DRIVER_SUPPORT")
	l.nic.become(func(n *sdk.NIC) { n.Netdev = "other0" })
	l.await(port, vswitch.VMQ, "NO_PROVIDER")
}

// tells is a log that hears of events.
type tells struct{ events chan<- struct{} }

func (tells) Enabled(context.Context, slog.Level) bool { return true }
func (h tells) WithAttrs([]slog.Attr) slog.Handler     { return h }
func (h tells) WithGroup(string) slog.Handler          { return h }
func (h tells) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "plugin tells" {
		select {
		case h.events <- struct{}{}:
		default:
		}
	}
	return nil
}
