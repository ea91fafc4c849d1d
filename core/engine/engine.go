package engine

import (
	"cmp"
	"sync/atomic"
	"time"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
)

// Engine carries out the verbs on one kernel with one store.
type Engine struct {
	kernel kernel.Kernel
	store  *store.Store
	now    func() time.Time
	root   string
	// resident is what Keep has done; nil in a process that comes and goes.
	resident atomic.Pointer[ledger]
}

// Config is what an engine works with. Now is the clock; nil means time.Now.
type Config struct {
	Kernel kernel.Kernel
	Store  *store.Store
	Now    func() time.Time
	// HostRoot is where the files of the host's network managers are; "" is /.
	HostRoot string
}

// New returns an engine. It touches neither kernel nor store.
func New(c Config) *Engine {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Engine{kernel: c.Kernel, store: c.Store, now: c.Now, root: cmp.Or(c.HostRoot, "/")}
}
