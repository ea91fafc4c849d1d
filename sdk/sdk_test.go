package sdk_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/host"
)

// scripted is a provider that answers what a test wants.
type scripted struct {
	describe  func() (sdk.Description, error)
	configure func(sdk.Config) error
	inventory func(context.Context, func(sdk.Inventory) error) error
	ensure    func(context.Context, sdk.Request) (sdk.Grant, error)
	release   func(sdk.Ref, uint64) error
	grants    func() ([]sdk.Grant, error)
}

func plain() *scripted {
	return &scripted{
		describe: func() (sdk.Description, error) {
			return sdk.Description{Name: "scripted", Vendor: "tests", Version: "1", Features: vswitch.Features(), Schema: sdk.Schema{{Key: "vfs", Type: sdk.Integer, Doc: "how many", Default: 4, Min: 1, Max: 8}}}, nil
		},
		configure: func(sdk.Config) error { return nil },
		inventory: func(ctx context.Context, tell func(sdk.Inventory) error) error {
			if err := tell(sdk.Inventory{NICs: []sdk.NIC{{ID: "0000:01:00.0"}}}); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		},
		ensure: func(_ context.Context, r sdk.Request) (sdk.Grant, error) {
			g := sdk.Grant{Ref: r.Ref, NIC: r.NIC, Generation: r.Generation, Amount: 1}
			if r.Feature == vswitch.SRIOV {
				g.VF = &sdk.VF{Index: 3, PCIAddr: "0000:01:02.3", Netdev: "enp1s2f3"}
			}
			return g, nil
		},
		release: func(sdk.Ref, uint64) error { return nil },
		grants:  func() ([]sdk.Grant, error) { return nil, nil },
	}
}

func (s *scripted) Describe(context.Context) (sdk.Description, error)    { return s.describe() }
func (s *scripted) Configure(_ context.Context, c sdk.Config) error      { return s.configure(c) }
func (s *scripted) Release(_ context.Context, r sdk.Ref, g uint64) error { return s.release(r, g) }
func (s *scripted) Grants(context.Context) ([]sdk.Grant, error)          { return s.grants() }
func (s *scripted) Ensure(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
	return s.ensure(ctx, r)
}

func (s *scripted) WatchInventory(ctx context.Context, tell func(sdk.Inventory) error) error {
	return s.inventory(ctx, tell)
}

// probed has one of the optional interfaces.
type probed struct {
	*scripted
	err error
}

func (p probed) Probe(context.Context) error { return p.err }

func serve(t *testing.T, p sdk.Provider) sdk.Client {
	t.Helper()
	client, shut, err := host.InMemory(p, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shut)
	return client
}

func request(f vswitch.Feature) sdk.Request {
	return sdk.Request{
		Ref: sdk.Ref{Port: "pb1", Feature: f}, NIC: "0000:01:00.0", Generation: 7, MAC: vswitch.MAC{2, 0, 0, 0, 0, 1}, VLAN: 4094, MTU: 1500,
		Owner: vswitch.OwnerContainer, Netns: "/run/netns/a", Weight: 100, QueuePairs: 2, Moderation: vswitch.ModerationLow, MaxOut: 1e9, MACSpoofing: true, MaxSAs: 512,
	}
}

func TestRequestsAndGrantsSurviveTheWire(t *testing.T) {
	p := plain()
	var got sdk.Request
	answer := p.ensure
	p.ensure = func(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
		got = r
		g, err := answer(ctx, r)
		g.Reason, g.Detail = vswitch.LimitReached, "1 queue pair of 2"
		return g, err
	}
	client := serve(t, p)
	for _, f := range vswitch.Features() {
		g, err := client.Ensure(t.Context(), request(f))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(request(f), got); diff != "" {
			t.Error(diff)
		}
		want, _ := p.ensure(t.Context(), request(f))
		if diff := cmp.Diff(want, g); diff != "" {
			t.Error(diff)
		}
	}
}

func TestDescriptionSaysWhichExtensionsThereAre(t *testing.T) {
	for name, c := range map[string]struct {
		provider sdk.Provider
		want     []sdk.Extension
	}{
		"none": {plain(), nil},
		"one":  {probed{plain(), nil}, []sdk.Extension{sdk.ExtProbe}},
	} {
		d, err := serve(t, c.provider).Describe(t.Context())
		want, _ := c.provider.Describe(t.Context())
		want.Extensions = c.want
		if diff := cmp.Diff(want, d); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

func TestExtensionsThatAreNotThere(t *testing.T) {
	client := serve(t, plain())
	ref := request(vswitch.SRIOV).Ref
	_, countersErr := client.Counters(t.Context(), ref)
	for name, err := range map[string]error{
		"probe":    client.Probe(t.Context()),
		"events":   client.WatchEvents(t.Context(), func(sdk.Event) error { return nil }),
		"paths":    client.SwitchPath(t.Context(), ref, sdk.PathSoftware),
		"counters": countersErr,
	} {
		if !errors.Is(err, vswitch.CapabilityMissing) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := serve(t, probed{plain(), nil}).Probe(t.Context()); err != nil {
		t.Error(err)
	}
	if err := serve(t, probed{plain(), sdk.Deny(vswitch.Refused, "firmware is silent")}).Probe(t.Context()); sdk.ReasonOf(err) != vswitch.Refused {
		t.Error(err)
	}
}

// A provider is only given what the contract lets the host send.
func TestInvalidRequestsDoNotReachTheProvider(t *testing.T) {
	p := plain()
	p.ensure = func(_ context.Context, r sdk.Request) (sdk.Grant, error) {
		t.Errorf("it was asked for %+v", r)
		return sdk.Grant{}, nil
	}
	client := serve(t, p)
	for name, change := range map[string]func(*sdk.Request){
		"no port":            func(r *sdk.Request) { r.Port = "" },
		"a port of two":      func(r *sdk.Request) { r.Port = "a\nb" },
		"an unknown feature": func(r *sdk.Request) { r.Feature = "rdma" },
		"no NIC":             func(r *sdk.Request) { r.NIC = "" },
		"no MAC":             func(r *sdk.Request) { r.MAC = vswitch.MAC{} },
		"a multicast MAC":    func(r *sdk.Request) { r.MAC = vswitch.MAC{1} },
		"VLAN 4095":          func(r *sdk.Request) { r.VLAN = 4095 },
		"a weight of 101":    func(r *sdk.Request) { r.Weight = 101 },
		"an owner unknown":   func(r *sdk.Request) { r.Owner = "cat" },
		"less than no SAs":   func(r *sdk.Request) { r.MaxSAs = -1 },
		"odd moderation":     func(r *sdk.Request) { r.Moderation = "max" },
		"MTU of a gigabyte":  func(r *sdk.Request) { r.MTU = 1 << 30 },
	} {
		r := request(vswitch.SRIOV)
		change(&r)
		_, err := client.Ensure(t.Context(), r)
		if kind := vswitch.KindOf(err); kind != vswitch.Invalid && kind != vswitch.Range && kind != vswitch.VLANRange && kind != vswitch.MACInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := client.Release(t.Context(), sdk.Ref{}, 1); !errors.Is(err, vswitch.Invalid) {
		t.Error(err)
	}
}

func TestLiesAreNotBelieved(t *testing.T) {
	valid, _ := plain().ensure(t.Context(), request(vswitch.SRIOV))
	grant := func(change func(*sdk.Grant)) func(*scripted) {
		return func(p *scripted) {
			g := valid
			vf := *valid.VF
			g.VF = &vf
			change(&g)
			p.ensure = func(context.Context, sdk.Request) (sdk.Grant, error) { return g, nil }
			p.grants = func() ([]sdk.Grant, error) { return []sdk.Grant{g, g}, nil }
		}
	}
	ensure := func(c sdk.Client) error { _, err := c.Ensure(t.Context(), request(vswitch.SRIOV)); return err }
	grants := func(c sdk.Client) error { _, err := c.Grants(t.Context()); return err }
	nic := func(n ...sdk.NIC) func(*scripted) {
		return func(p *scripted) {
			p.inventory = func(_ context.Context, tell func(sdk.Inventory) error) error { return tell(sdk.Inventory{NICs: n}) }
		}
	}
	inventory := func(c sdk.Client) error {
		return c.WatchInventory(t.Context(), func(i sdk.Inventory) error { return errors.New("believed") })
	}
	for name, c := range map[string]struct {
		lie func(*scripted)
		ask func(sdk.Client) error
	}{
		"another port":            {grant(func(g *sdk.Grant) { g.Port = "pb2" }), ensure},
		"another feature":         {grant(func(g *sdk.Grant) { g.Feature, g.VF = vswitch.VMQ, nil }), ensure},
		"another NIC":             {grant(func(g *sdk.Grant) { g.NIC = "0000:02:00.0" }), ensure},
		"another generation":      {grant(func(g *sdk.Grant) { g.Generation++ }), ensure},
		"more than asked for":     {grant(func(g *sdk.Grant) { g.Amount = 3 }), ensure},
		"SAs of a VF":             {grant(func(g *sdk.Grant) { g.SAs = 1 }), ensure},
		"more SAs than there are": {grant(func(g *sdk.Grant) { g.SAs, g.SAsHeld = 1, 2 }), ensure},
		"no VF":                   {grant(func(g *sdk.Grant) { g.VF = nil }), ensure},
		"a netdev of evil":        {grant(func(g *sdk.Grant) { g.VF.Netdev = "../../etc" }), ensure},
		"a PCI address of two":    {grant(func(g *sdk.Grant) { g.VF.PCIAddr = "a\x1b[2J" }), ensure},
		"a VF below the first":    {grant(func(g *sdk.Grant) { g.VF.Index = -1 }), ensure},
		"a grant twice":           {grant(func(*sdk.Grant) {}), grants},
		"a VF of two ports": {func(p *scripted) {
			p.grants = func() ([]sdk.Grant, error) {
				one := sdk.Grant{Ref: sdk.Ref{Port: "a", Feature: vswitch.SRIOV}, NIC: "n", Generation: 1, VF: &sdk.VF{Index: 1}}
				two := one
				two.Port = "b"
				return []sdk.Grant{one, two}, nil
			}
		}, grants},
		"a queue of two ports": {func(p *scripted) {
			p.grants = func() ([]sdk.Grant, error) {
				one := sdk.Grant{Ref: sdk.Ref{Port: "a", Feature: vswitch.VMQ}, NIC: "n", Generation: 1, Queue: 3}
				two := one
				two.Port = "b"
				return []sdk.Grant{one, two}, nil
			}
		}, grants},
		"a NIC without an id":    {nic(sdk.NIC{}), inventory},
		"a NIC twice":            {nic(sdk.NIC{ID: "a"}, sdk.NIC{ID: "a"}), inventory},
		"a capacity below none":  {nic(sdk.NIC{ID: "a", Capabilities: vswitch.Capabilities{VMQ: vswitch.Capability{Capacity: -2}}}), inventory},
		"more taken than is":     {nic(sdk.NIC{ID: "a", Capabilities: vswitch.Capabilities{VMQ: vswitch.Capability{Capacity: 1, Foreign: 2}}}), inventory},
		"missing with capacity":  {nic(sdk.NIC{ID: "a", Capabilities: vswitch.Capabilities{VMQ: vswitch.Capability{Capacity: 1, Missing: vswitch.NoACS}}}), inventory},
		"an inventory that ends": {func(p *scripted) { p.inventory = func(context.Context, func(sdk.Inventory) error) error { return nil } }, inventory},
		"a thousand NICs": {nic(func() (all []sdk.NIC) {
			for i := range 2000 {
				all = append(all, sdk.NIC{ID: string(rune('a' + i))})
			}
			return all
		}()...), inventory},
	} {
		t.Run(name, func(t *testing.T) {
			p := plain()
			c.lie(p)
			if err := c.ask(serve(t, p)); !errors.Is(err, vswitch.PluginFailed) || vswitch.HintOf(err) == "" {
				t.Errorf("%v", err)
			}
		})
	}
}

// What a newer plugin says beyond this build's words is understood as far as it can be.
func TestWordsOfANewerPlugin(t *testing.T) {
	p := plain()
	answer := p.ensure
	p.ensure = func(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
		g, _ := answer(ctx, r)
		g.Reason, g.Detail = "MOON_PHASE", "waning"
		return g, nil
	}
	g, err := serve(t, p).Ensure(t.Context(), request(vswitch.VMQ))
	if err != nil || g.Reason != vswitch.Refused || g.Detail != "waning" {
		t.Errorf("%+v, %v", g, err)
	}
	p.ensure = func(context.Context, sdk.Request) (sdk.Grant, error) {
		return sdk.Grant{}, &vswitch.Error{Kind: "MOON_PHASE", Err: errors.New("waning"), Hint: "wait"}
	}
	if _, err = serve(t, p).Ensure(t.Context(), request(vswitch.VMQ)); vswitch.KindOf(err) != "MOON_PHASE" || vswitch.HintOf(err) != "wait" {
		t.Error(err)
	}
}

func TestPanicIsAnErrorOfOneCall(t *testing.T) {
	p := plain()
	p.grants = func() ([]sdk.Grant, error) { panic("index out of range") }
	p.inventory = func(context.Context, func(sdk.Inventory) error) error { panic("nil map") }
	client := serve(t, p)
	if _, err := client.Grants(t.Context()); !errors.Is(err, vswitch.PluginFailed) {
		t.Error(err)
	}
	if err := client.WatchInventory(t.Context(), func(sdk.Inventory) error { return nil }); !errors.Is(err, vswitch.PluginFailed) {
		t.Error(err)
	}
	if err := client.Release(t.Context(), request(vswitch.VMQ).Ref, 1); err != nil {
		t.Errorf("it is not served any more: %v", err)
	}
}

// Two calls for one port come one after another, those for two ports together, and a caller
// that does not want to wait goes away.
func TestTurnsOfPorts(t *testing.T) {
	p := plain()
	answer := p.ensure
	var inside atomic.Int32
	entered, leave := make(chan string, 4), make(chan struct{})
	p.ensure = func(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
		inside.Add(1)
		defer inside.Add(-1)
		entered <- r.Port
		<-leave
		return answer(ctx, r)
	}
	client := serve(t, p)
	results := make(chan error, 2)
	call := func(ctx context.Context, port string) {
		r := request(vswitch.VMQ)
		r.Port = port
		_, err := client.Ensure(ctx, r)
		results <- err
	}
	go call(t.Context(), "a")
	if port := <-entered; port != "a" {
		t.Fatal(port)
	}
	impatient, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if call(impatient, "a"); !errors.Is(<-results, context.DeadlineExceeded) {
		t.Error("a second call for the port did not wait")
	}
	go call(t.Context(), "b")
	if port := <-entered; port != "b" || inside.Load() != 2 {
		t.Errorf("port %s, %d at once", port, inside.Load())
	}
	close(leave)
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

func TestConfigurationIsHeldAgainstTheSchema(t *testing.T) {
	p := plain()
	var got sdk.Config
	p.configure = func(c sdk.Config) error { got = c; return nil }
	client := serve(t, p)
	if err := client.Configure(t.Context(), nil); err != nil || got.Int("vfs") != 4 {
		t.Errorf("%v, %v", got, err)
	}
	err := client.Configure(t.Context(), sdk.Config{"vfs": 9})
	var e *vswitch.Error
	if !errors.As(err, &e) || e.Kind != vswitch.Invalid || e.Field != "vfs" || got.Int("vfs") != 4 {
		t.Errorf("%v, and it has %v", err, got)
	}
}

func TestInventoryIsToldUntilTheWatcherLeaves(t *testing.T) {
	p := plain()
	ended := make(chan error, 1)
	more := make(chan sdk.Inventory)
	p.inventory = func(ctx context.Context, tell func(sdk.Inventory) error) error {
		for {
			select {
			case i := <-more:
				if err := tell(i); err != nil {
					return err
				}
			case <-ctx.Done():
				ended <- ctx.Err()
				return ctx.Err()
			}
		}
	}
	client := serve(t, p)
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan sdk.Inventory)
	result := make(chan error, 1)
	go func() {
		result <- client.WatchInventory(ctx, func(i sdk.Inventory) error { heard <- i; return nil })
	}()
	want := sdk.Inventory{NICs: []sdk.NIC{{ID: "a", Netdev: "eth0", Driver: "igb", Model: "82576", Link: true, Capabilities: vswitch.Capabilities{
		SRIOV: vswitch.Capability{Capacity: 7, Foreign: 1, QueuePairs: 2, Moderation: true, VMs: vswitch.NoIOMMU}, IPsec: vswitch.Capability{Missing: vswitch.NoDriverSupport},
	}}}}
	for range 2 {
		more <- want
		if diff := cmp.Diff(want, <-heard); diff != "" {
			t.Error(diff)
		}
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
