// Package pool is the sdk.Provider of VFs: it makes them, gives them to ports, and takes them
// back to how they were found.
//
// A VF changes hands without a driver: its driver is taken off, and with that its netdev is no
// more, wherever that was and whatever was done to it; the NIC is told what holds from now on;
// and a driver takes the VF anew. All of it is written down before it is done (package record).
package pool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/plugins/sriov/nic"
	"github.com/patchbay-net/patchbay/plugins/sriov/record"
	"github.com/patchbay-net/patchbay/sdk"
)

// Provider gives VFs to ports. It has all optional interfaces but sdk.Prober and
// sdk.CounterReader.
type Provider struct {
	host    *nic.Host
	version string
	news    news
	life    context.Context //nolint:containedctx // it ends with Close
	end     context.CancelFunc
	work    sync.WaitGroup // calls that change something, and who listens to the kernel

	mu   sync.Mutex // of all below; held for choosing, not for working
	o    options
	file *record.File // nil before Configure and after Close
	lock *os.File
	busy map[string]bool // VFs that somebody works on
	idle *sync.Cond      // one of them is not any more
}

// options are the settings.
type options struct {
	nics []string // names or addresses of the NICs that are served; empty for all
	vfs  int      // how many are made on a NIC without any
	path string   // of the record
}

// New makes a provider for a machine, which calls itself by a version.
func New(host *nic.Host, version string) *Provider {
	life, end := context.WithCancel(context.Background())
	p := &Provider{host: host, version: version, life: life, end: end, busy: map[string]bool{}}
	p.idle = sync.NewCond(&p.mu)
	return p
}

// Describe says who we are.
func (p *Provider) Describe(context.Context) (sdk.Description, error) {
	return sdk.Description{
		Name: "sriov", Vendor: "Patchbay", Version: p.version, Features: []vswitch.Feature{vswitch.SRIOV},
		Schema: sdk.Schema{
			{Key: "nics", Type: sdk.Strings, Doc: "NICs whose VFs ports may have, by name or PCI address; all if left out"},
			{Key: "vfs", Type: sdk.Integer, Doc: "how many VFs are made on a NIC that has none, once one is needed", Default: 8, Min: 1, Max: 256},
			{Key: "record", Type: sdk.String, Doc: "file that remembers how VFs were found", Default: "/var/lib/patchbay/sriov.json"},
		},
	}, nil
}

// Configure takes the settings. The first time it reads what was written down, and finishes
// or undoes what was begun and never done.
func (p *Provider) Configure(ctx context.Context, c sdk.Config) error {
	o := options{nics: c.Strings("nics"), vfs: c.Int("vfs"), path: c.Text("record")}
	first, err := p.configure(o)
	if err == nil && first {
		defer p.work.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workTime)
		defer cancel()
		p.retry(ctx, undone...)
	}
	if err == nil {
		p.warn(ctx, o.nics)
	}
	p.news.tell()
	return err
}

// warn tells of NICs that are to be served and are not there: they may come, or be misspelt.
func (p *Provider) warn(ctx context.Context, wanted []string) {
	all, err := p.host.PFs()
	for _, name := range wanted {
		if err != nil || !slices.ContainsFunc(all, func(pf nic.PF) bool { return name == pf.Addr || name == pf.Netdev }) {
			sdk.Log(ctx).Warn("there is no such NIC with SR-IOV now", "nic", name)
		}
	}
}

// configure reports whether these are the first settings.
func (p *Provider) configure(o options) (first bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.life.Err() != nil:
		return false, errClosed()
	case p.file == nil:
		if err := p.open(o.path); err != nil {
			return false, err
		}
		p.work.Add(1) // the caller is to finish what was begun
		first = true
	case o.path != p.o.path:
		return false, &vswitch.Error{
			Kind: vswitch.Immutable, Object: "record", Field: "record", Err: fmt.Errorf("it is %s while the plugin runs", p.o.path),
			Hint: "restart patchbayd to change it",
		}
	}
	p.o = o
	return first, nil
}

func (p *Provider) open(path string) error {
	if !filepath.IsAbs(path) {
		return &vswitch.Error{Kind: vswitch.Invalid, Object: "record", Field: "record", Err: fmt.Errorf("%.80q is no absolute path", path)}
	}
	lock, err := acquire(path + ".lock")
	if err != nil {
		return err
	}
	w, err := p.host.Watch()
	if err != nil {
		return errors.Join(err, lock.Close())
	}
	boot, err := p.host.Boot()
	if err == nil {
		p.file, err = record.Open(path, boot)
	}
	if err == nil {
		err = p.forget()
	}
	if err != nil {
		w.Close()
		p.file = nil
		return errors.Join(err, lock.Close())
	}
	p.lock = lock
	p.work.Go(func() { p.listen(w) })
	return nil
}

// acquire makes this the only plugin that uses a record.
func acquire(path string) (*os.File, error) {
	fail := func(err error) error {
		return &vswitch.Error{Kind: vswitch.StoreUnavailable, Object: "record " + path, Err: err}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fail(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fail(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // it is somebody else's
		return nil, &vswitch.Error{
			Kind: vswitch.InUse, Object: "record " + path, Err: errors.New("another patchbay-plugin-sriov runs with it"),
			Hint: "run `patchbay plugin list`; to try the plugin beside it give it a record of its own",
		}
	}
	return f, nil
}

// Close ends it, when what is under way is done. What ports hold they keep.
func (p *Provider) Close() error {
	p.end()
	p.work.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.file = nil
	if p.lock == nil {
		return nil
	}
	err := p.lock.Close()
	p.lock = nil
	return err
}

// workTime is what changing a VF may take: less than the host waits for.
const workTime = 12 * time.Second

// begin is the beginning of a call that changes something. What it changes it brings to an
// end, whether the caller waits or not.
func (p *Provider) begin(ctx context.Context) (context.Context, func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life.Err() != nil || p.file == nil {
		return nil, nil, errClosed()
	}
	p.work.Add(1)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workTime)
	return ctx, func() {
		cancel()
		p.news.tell()
		p.work.Done()
	}, nil
}

func errClosed() error {
	return &vswitch.Error{Kind: vswitch.PluginFailed, Err: errors.New("the plugin was not configured, or ends")}
}

// listen passes on that the kernel has news.
func (p *Provider) listen(w *nic.Watch) {
	defer w.Close()
	const quiet, most = 20 * time.Millisecond, 300 * time.Millisecond
	for {
		if err := w.Next(p.life); err != nil {
			if p.life.Err() == nil {
				sdk.Log(p.life).Error("changes of NICs are not noticed any more", "err", err)
			}
			return
		}
		w.Calm(p.life, quiet, most)
		p.reclaim()
		p.news.tell()
	}
}

// reclaim brings back what VMs had seized and have no more: libvirt has set it to what it was
// when a port had it, whose MAC is another VF's by now.
func (p *Provider) reclaim() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.life), workTime)
	defer cancel()
	p.retry(ctx, record.Seized)
}

// serves reports whether a NIC is among those that are served.
func (p *Provider) serves(pf nic.PF) bool {
	return len(p.o.nics) == 0 || slices.Contains(p.o.nics, pf.Addr) || pf.Netdev != "" && slices.Contains(p.o.nics, pf.Netdev)
}

// news wakes everybody who waits for some.
type news struct {
	mu   sync.Mutex
	next chan struct{} // closed when there are some
}

// wait is closed at the next news.
func (n *news) wait() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next == nil {
		n.next = make(chan struct{})
	}
	return n.next
}

func (n *news) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next != nil {
		close(n.next)
		n.next = nil
	}
}
