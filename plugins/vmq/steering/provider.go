// Package steering is the provider of VMQ on Linux: a port gets a queue of the NIC that its
// switch is on, and a rule (`ethtool -N`) that steers frames for the port's MAC address to
// it. Everybody else's frames are kept out of that queue by the NIC's indirection table.
//
// A NIC is changed when the first port gets a queue, and put back as it was found when the
// last one is released. How it was found, and what ports hold, is in a file before the NIC
// is touched. What is true is what the driver says: each call looks at it, and a grant
// whose rule is gone is lost.
package steering

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"sync"

	"github.com/patchbay-net/patchbay/core/kernel/ethtool"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// hardware is what of ethtool.Conn the provider uses; ethtool.Fake is another.
type hardware interface {
	Adapters() ([]ethtool.Adapter, error)
	Driver(netdev string) (string, error)
	Queues(netdev string) (int, error)
	NTuple(netdev string) (ethtool.Switch, error)
	SetNTuple(netdev string, on bool) error
	Rules(netdev string) (ethtool.Rules, error)
	Insert(netdev string, r ethtool.Rule, have ethtool.Rules) (uint32, error)
	Delete(netdev string, location uint32) error
	Indirection(netdev string) ([]uint32, error)
	SetIndirection(netdev string, table []uint32) error
	QueueCounters(a ethtool.Adapter, queue int) (map[string]uint64, error)
	Watch(ctx context.Context, ready, tell func()) error
}

// Provider is the sdk.Provider. It is an sdk.Prober, sdk.EventSource, sdk.CounterReader and
// io.Closer too.
type Provider struct {
	version string
	open    func() (hardware, error)

	mu       sync.Mutex // of all below, and of the NICs
	hardware hardware   // nil until Configure
	ledger   *ledger    // nil until Configure
	nics     map[string]nic
	unfit    map[int]bool // netdevs, by index, whose drivers turned out to have no such rules
	told     sdk.Inventory
	changed  chan struct{} // closed when another inventory is to be told
	events   listeners

	stop    context.CancelFunc // ends the watching
	watched chan struct{}      // closed when it has ended
	deaf    error              // why it ended by itself
}

// New makes a provider for the NICs of the network namespace that it is configured in.
func New(version string) *Provider {
	return newProvider(version, func() (hardware, error) { return ethtool.Open() })
}

func newProvider(version string, open func() (hardware, error)) *Provider {
	return &Provider{version: version, open: open, unfit: map[int]bool{}, changed: make(chan struct{})}
}

// keyState is the only setting.
const keyState = "state"

// Describe says who we are.
func (p *Provider) Describe(context.Context) (sdk.Description, error) {
	return sdk.Description{
		Name: "vmq", Vendor: "Patchbay", Version: p.version, Features: []vswitch.Feature{vswitch.VMQ},
		Schema: sdk.Schema{{
			Key: keyState, Type: sdk.String, Default: "/run/patchbay/vmq.json",
			Doc: "file that says how NICs were found and what ports hold; it must not outlive a boot",
		}},
	}, nil
}

// Configure opens the state, brings NICs in line with it, and begins to watch them. With
// another file it lets go of the first one, whose ports keep what they hold.
func (p *Provider) Configure(_ context.Context, c sdk.Config) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hardware == nil {
		h, err := p.open()
		if err != nil {
			return err
		}
		p.hardware = h
	}
	if path := c.Text(keyState); p.ledger == nil || p.ledger.path != path {
		l, err := openLedger(path)
		if err != nil {
			return err
		}
		if p.ledger != nil {
			p.ledger.close()
		}
		p.ledger = l
	}
	if p.stop == nil {
		if err := p.watch(); err != nil {
			return err
		}
	}
	return p.refresh(everyNIC)
}

// watch begins to look at the NICs whenever something about them changes.
func (p *Provider) watch() error {
	ctx, cancel := context.WithCancel(context.Background())
	p.deaf = nil
	ready, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		err := p.hardware.Watch(ctx, func() { close(ready) }, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.lookAt(everyNIC)
		})
		p.mu.Lock()
		defer p.mu.Unlock()
		if ctx.Err() == nil {
			p.deaf = err
		}
	}()
	p.mu.Unlock() // which the end of watching needs
	select {
	case <-ready:
	case <-watched:
	}
	p.mu.Lock()
	if p.deaf != nil {
		cancel()
		return p.deaf
	}
	p.stop, p.watched = cancel, watched
	return nil
}

// lookAt is refresh where nobody waits for what it says.
func (p *Provider) lookAt(id string) {
	if err := p.refresh(id); err != nil {
		slog.Error("look at the NICs", "err", err)
	}
}

// Probe says whether the provider still hears of changes.
func (p *Provider) Probe(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.deaf
}

// Close lets go of the state. Ports keep what they hold.
func (p *Provider) Close() error {
	p.mu.Lock()
	stop, watched := p.stop, p.watched
	p.mu.Unlock()
	if stop != nil {
		stop()
		<-watched
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ledger != nil {
		p.ledger.close()
	}
	if c, ok := p.hardware.(*ethtool.Conn); ok {
		return c.Close()
	}
	return nil
}

// WatchInventory tells the NICs at once, and again when they change.
func (p *Provider) WatchInventory(ctx context.Context, tell func(sdk.Inventory) error) error {
	if err := p.fresh(); err != nil {
		return err
	}
	for {
		p.mu.Lock()
		now, changed := p.told, p.changed
		p.mu.Unlock()
		if err := tell(now); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fresh looks at the NICs for who is not to be told of yesterday's.
func (p *Provider) fresh() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refresh(everyNIC)
}

// Of which NICs refresh asks besides those that ports hold something of: every one, or none.
const (
	everyNIC = "*"
	onlyHeld = ""
)

// refresh looks at a NIC, or every one, and at those of which ports hold something, and
// brings what is recorded in line with what is true. Every call about grants begins with
// it. The others are left alone: to ask a NIC that sleeps wakes it up.
func (p *Provider) refresh(id string) error {
	if p.ledger == nil {
		return errors.New("the plugin was not configured")
	}
	adapters, err := p.hardware.Adapters()
	if err != nil {
		return err
	}
	ids := identify(adapters)
	known := p.nics
	p.nics = make(map[string]nic, len(adapters))
	for i, a := range adapters {
		n, there := known[ids[i]]
		asked := id == everyNIC || id == ids[i] || p.ledger.nics[ids[i]] != nil
		if there && n.Index == a.Index && (n.hopeless || !asked) {
			n.Adapter = a
		} else {
			n, there = p.examine(ids[i], a)
		}
		if there {
			p.nics[n.id] = n
		}
	}
	if err := p.reconcile(); err != nil {
		return err
	}
	var now sdk.Inventory
	for _, id := range ids {
		if n, there := p.nics[id]; there {
			now.NICs = append(now.NICs, n.told(p.ledger.held(id)))
		}
	}
	if !reflect.DeepEqual(now, p.told) {
		p.told = now
		close(p.changed)
		p.changed = make(chan struct{})
	}
	return nil
}
