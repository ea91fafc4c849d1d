package engine

import (
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
	sizes  vswitch.SegmentSizes
}

// Config is what an engine works with. Now is the clock; nil means time.Now.
// Segments are the sizes that switches grow by; zero means vswitch's default.
type Config struct {
	Kernel   kernel.Kernel
	Store    *store.Store
	Now      func() time.Time
	Segments vswitch.SegmentSizes
}

// New returns an engine. It touches neither kernel nor store.
func New(c Config) *Engine {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Segments == (vswitch.SegmentSizes{}) {
		c.Segments = vswitch.DefaultSegmentSizes()
	}
	return &Engine{kernel: c.Kernel, store: c.Store, now: c.Now, sizes: c.Segments}
}
