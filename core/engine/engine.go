package engine

import (
	"cmp"
	"sync/atomic"
	"time"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Engine carries out the verbs on one kernel with one store.
type Engine struct {
	kernel kernel.Kernel
	store  *store.Store
	now    func() time.Time
	root   string
	sizes  vswitch.SegmentSizes
	// resident is what Keep has done; nil in a process that comes and goes.
	resident atomic.Pointer[ledger]
	leaving  leaving
	// leaveTapsTo is who binds taps of VMs that run, if somebody does: see LeaveTaps.
	leaveTapsTo func(domain string) bool
	// hardware is nil where nobody runs plugins; arbiter is Keep's, while it works.
	hardware Hardware
	denials  *denials
	arbiter  atomic.Pointer[arbiter]
}

// Config is what an engine works with. Now is the clock; nil means time.Now.
type Config struct {
	Kernel kernel.Kernel
	Store  *store.Store
	Now    func() time.Time
	// HostRoot is where the files of the host's network managers are; "" is /.
	HostRoot string
	// Segments are the sizes that switches grow by; zero means vswitch's default.
	Segments vswitch.SegmentSizes
	// Hardware is what NICs can do by plugins; nil where nobody runs any.
	Hardware Hardware
}

// New returns an engine. It touches neither kernel nor store.
func New(c Config) *Engine {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Segments == (vswitch.SegmentSizes{}) {
		c.Segments = vswitch.DefaultSegmentSizes()
	}
	return &Engine{kernel: c.Kernel, store: c.Store, now: c.Now, root: cmp.Or(c.HostRoot, "/"), sizes: c.Segments, hardware: c.Hardware, denials: new(denials)}
}
