package fleet_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/store/storetest"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/plugins/example/card"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/host"
	"github.com/patchbay-net/patchbay/sdk/host/fleet"
)

// lab is an engine on a fake kernel, with a plugin behind the real protocol, in memory.
type lab struct {
	*engine.Engine
	t      *testing.T
	dirs   store.Dirs
	kernel *kernel.Fake
	via    kernel.Kernel // what engines go by to the kernel, if not straight
	nic    *nic
	fleet  *fleet.Fleet
	sizes  vswitch.SegmentSizes
	rounds chan struct{}
	tries  chan time.Duration // until the next one, of rounds in which something failed
	// decided is how often it was decided about offloads.
	decided atomic.Int32
	stop    func()
}

// nic is the example's provider, whose NIC is nic0 if no other is named, and can be
// tampered with.
type nic struct {
	*card.Provider
	mu      sync.Mutex
	tamper  func(*sdk.NIC)
	changed chan struct{}
	refuse  error
	// nameless VFs have no netdev.
	nameless bool
	kernel   *kernel.Fake
	asked    []sdk.Request
	less     sdk.Grant // what grants of queues say of a limit
	order    []string  // ports, as VFs were given to them ("+") and taken back ("-")
	sas      sas
}

func newNIC(t *testing.T, config sdk.Config) *nic {
	t.Helper()
	n := &nic{Provider: card.New(), changed: make(chan struct{}, 1), sas: newSAs()}
	if err := n.Configure(context.Background(), config); err != nil {
		t.Fatal(err)
	}
	return n
}

// become changes what the NIC tells of itself.
func (n *nic) become(tamper func(*sdk.NIC)) {
	n.mu.Lock()
	n.tamper = tamper
	n.mu.Unlock()
	n.changed <- struct{}{}
}

// refuseAll has Ensure fail, or not any more.
func (n *nic) refuseAll(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refuse = err
}

func (n *nic) WatchInventory(ctx context.Context, tell func(sdk.Inventory) error) error {
	for {
		told := false
		inner, cancel := context.WithCancel(ctx)
		err := n.Provider.WatchInventory(inner, func(i sdk.Inventory) error {
			n.mu.Lock()
			for j := range i.NICs {
				if n.tamper != nil {
					n.tamper(&i.NICs[j])
				}
			}
			n.mu.Unlock()
			err := tell(i)
			told = err == nil
			cancel()
			return err
		})
		cancel()
		if !told {
			return err
		}
		select {
		case <-n.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (n *nic) Ensure(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
	n.mu.Lock()
	n.asked = append(n.asked, r)
	if r.Feature == vswitch.SRIOV {
		n.order = append(n.order, "+"+r.Port)
	}
	refuse := n.refuse
	n.mu.Unlock()
	if refuse != nil {
		return sdk.Grant{}, refuse
	}
	if r.Feature == vswitch.IPsec { // of a NIC that became one with SAs
		return n.sas.ensure(r), nil
	}
	g, err := n.Provider.Ensure(ctx, r)
	if err == nil && g.VF != nil && !n.nameless {
		g.VF = &sdk.VF{Index: g.VF.Index, PCIAddr: g.VF.PCIAddr, Netdev: vfName(g.VF.Index)}
		n.kernel.AddNetdev(kernel.Netdev{Name: g.VF.Netdev, MAC: r.MAC, MTU: 1500, Ethernet: true, Carrier: true})
	}
	return g, err
}

func vfName(index int) string { return fmt.Sprint("nic0v", index) }

// Release takes the VF's netdev off its driver, wherever it is.
func (n *nic) Release(ctx context.Context, ref sdk.Ref, generation uint64) error {
	n.sas.release(ref, generation, n.kernel)
	grants, err := n.Provider.Grants(ctx)
	for _, g := range grants {
		if g.Ref == ref && g.VF != nil && g.Generation <= generation {
			n.kernel.RemoveNetdev(vfName(g.VF.Index))
			n.mu.Lock()
			n.order = append(n.order, "-"+ref.Port)
			n.mu.Unlock()
		}
	}
	return errors.Join(err, n.Provider.Release(ctx, ref, generation))
}

// requests are what was asked for one port, in order.
func (n *nic) requests(port string) (all []sdk.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.asked {
		if r.Port == port {
			all = append(all, r)
		}
	}
	return all
}

// limit has grants of queues say why they are less than was asked for.
func (n *nic) limit(why vswitch.Reason, detail string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.less = sdk.Grant{Reason: why, Detail: detail}
}

// Grants are the card's, which tell also which VFs' netdevs are on the host, and those of SAs.
func (n *nic) Grants(ctx context.Context) ([]sdk.Grant, error) {
	all, err := n.Provider.Grants(ctx)
	all = append(all, n.sas.granted()...)
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range all {
		if all[i].Feature == vswitch.VMQ {
			all[i].Reason, all[i].Detail = n.less.Reason, n.less.Detail
		}
		if vf := all[i].VF; vf != nil {
			if _, err := n.kernel.Netdev(ctx, vfName(vf.Index)); err == nil {
				all[i].VF = &sdk.VF{Index: vf.Index, PCIAddr: vf.PCIAddr, Netdev: vfName(vf.Index)}
			}
		}
	}
	return all, err
}

// hands is how VFs changed hands so far.
func (n *nic) hands() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.order, " ")
}

const netns = "/run/netns/c"

// patience is how long to wait for what must come, on a machine that is slow at the time.
const patience = time.Minute

func newLab(t *testing.T, config sdk.Config) *lab {
	t.Helper()
	l := &lab{t: t, dirs: store.Dirs{State: storetest.Dir(t), Run: storetest.Dir(t)}, rounds: make(chan struct{}, 1), tries: make(chan time.Duration, 64)}
	l.kernel = kernel.NewFake(kernel.FakeConfig{
		Netdevs: []kernel.Netdev{
			{Name: "lo", Loopback: true, Up: true},
			{Name: "nic0", MAC: vswitch.MAC{0x52, 0x54, 0, 0, 0, 1}, MTU: 1500, MaxMTU: 9000, Ethernet: true, Up: true, Carrier: true, Speed: 1000},
		},
		Capabilities: kernel.Capabilities{PortLocked: true, VLANFiltering: true, BridgeRules: true, NAT: true, Bonding: true, MemberRules: true, GuardRules: true, ACLRules: true, Limits: true, Shares: true, Mirroring: true},
	})
	for i := range 8 {
		l.kernel.AddNetns(fmt.Sprint(netns, i))
	}
	if config["netdevs"] == nil {
		config["netdevs"] = []string{"nic0"}
	}
	config["nics"] = len(config["netdevs"].([]string))
	l.nic = newNIC(t, config)
	l.nic.kernel = l.kernel
	l.open()
	l.add(vswitch.Switch{Name: "wan", Uplink: "nic0", SRIOV: true})
	return l
}

// open begins anew, as a process does that is started again.
func (l *lab) open() { l.openWith(l.nic) }

// instead begins anew with another plugin, which does what it does by the lab's NIC.
func (l *lab) instead(p sdk.Provider) {
	l.stop()
	l.openWith(p)
}

func (l *lab) openWith(p sdk.Provider) {
	l.t.Helper()
	client, shut, err := host.InMemory(p, slog.New(slog.DiscardHandler))
	if err != nil {
		l.t.Fatal(err)
	}
	log := slog.New(heard{l.rounds, l.tries, &l.decided})
	l.fleet = fleet.New(log)
	l.fleet.Add("example", client)
	l.Engine = engine.New(engine.Config{
		Kernel: cmp.Or(l.via, kernel.Kernel(l.kernel)), Store: l.store(), Hardware: l.fleet, Segments: l.sizes,
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended, ready := make(chan error, 1), make(chan struct{})
	go func() { ended <- l.Keep(ctx, log, func() { close(ready) }) }()
	<-ready
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			l.t.Error(err)
		}
		l.fleet.Close()
		shut()
	})
	l.t.Cleanup(l.stop)
}

func (l *lab) store() *store.Store {
	return store.New(store.Config{Dirs: l.dirs, BootID: "boot", MachineID: "machine"})
}

// heard is a log that tells when offloads have been decided, and when it is tried again.
type heard struct {
	rounds  chan struct{}
	tries   chan time.Duration
	decided *atomic.Int32
}

func (h heard) Enabled(context.Context, slog.Level) bool { return true }
func (h heard) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h heard) WithGroup(string) slog.Handler            { return h }
func (h heard) Handle(_ context.Context, r slog.Record) error {
	switch r.Message {
	case "offloads are decided", "offloads are counted":
		if r.Message == "offloads are decided" {
			h.decided.Add(1)
		}
		select {
		case h.rounds <- struct{}{}:
		default:
		}
	}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "next try" && r.Message == "offloads are not as decided" {
			h.tries <- a.Value.Duration()
		}
		return true
	})
	return nil
}

func (l *lab) add(s vswitch.Switch) {
	l.t.Helper()
	if _, err := l.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: s}); err != nil {
		l.t.Fatal(err)
	}
}

func owner(i int) vswitch.Owner {
	return vswitch.Owner{Kind: vswitch.OwnerContainer, Network: "net", ID: fmt.Sprint("c", i), Endpoint: "eth0", Netns: fmt.Sprint(netns, i)}
}

func (l *lab) attach(i int, wish vswitch.OffloadChange) (vswitch.Port, error) {
	a, err := l.Attach(context.Background(), engine.AttachRequest{Owner: owner(i), Switch: "wan", Policy: vswitch.PolicyChange{Offload: wish}})
	return a.Port, err
}

func (l *lab) mustAttach(i int, wish vswitch.OffloadChange) string {
	l.t.Helper()
	p, err := l.attach(i, wish)
	if err != nil {
		l.t.Fatal(err)
	}
	return p.ID
}

func (l *lab) set(port string, wish vswitch.OffloadChange) error {
	_, err := l.SetPort(context.Background(), port, engine.PortChange{Policy: vswitch.PolicyChange{Offload: wish}})
	return err
}

// has is what a port has of a feature: "yes", or the reason.
func (l *lab) has(port string, f vswitch.Feature) string {
	l.t.Helper()
	p, err := l.Port(context.Background(), port)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, o := range p.Offload {
		switch {
		case o.Feature != f:
		case o.Reason == vswitch.QueuesOfVF:
			return string(o.Reason)
		case o.Effective && o.NIC == "":
			l.t.Errorf("%s of %s is in effect, and nobody does it", f, port)
		case o.Effective:
			return "yes"
		default:
			return string(o.Reason)
		}
	}
	return "nothing"
}

// await waits until a port has what is wanted of a feature, looking once after each decision.
func (l *lab) await(port string, f vswitch.Feature, want string) {
	l.t.Helper()
	l.until(fmt.Sprintf("%s of %s is %s", f, port, want), func() (bool, string) {
		got := l.has(port, f)
		return got == want, got
	})
}

func (l *lab) until(what string, is func() (bool, string)) {
	l.t.Helper()
	limit := time.After(patience)
	for {
		ok, got := is()
		if ok {
			return
		}
		select {
		case <-l.rounds:
		case <-limit:
			l.t.Fatalf("not so: %s; it is %s", what, got)
		}
	}
}

// grants are what the plugin has given.
func (l *lab) grants() int {
	all, err := l.nic.Grants(context.Background())
	if err != nil {
		l.t.Error(err)
	}
	return len(all)
}

func weight(n int) vswitch.OffloadChange {
	return vswitch.OffloadChange{VMQ: vswitch.VMQChange{Weight: &n}}
}

func mode(m vswitch.OffloadMode) vswitch.OffloadChange {
	return vswitch.OffloadChange{VMQ: vswitch.VMQChange{Mode: &m}}
}

var errNoFirmware = errors.New("the firmware does not answer")
