package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/patchbay-net/patchbay/integration/host"
)

// collect measures in seconds how long GC of ours takes for that many attachments of which
// the runtime knows nothing any more, not even in its cache: what is in there libcni
// deletes itself, one after the other.
func collect(cs []*contender, o options) (float64, error) {
	us := find(cs, ours)
	if o.stale == 0 {
		return 0, nil
	}
	tell("%d stale attachments", o.stale)
	stale := make([]*host.Container, o.stale)
	err := us.fill(o.stale, func(i int) (err error) {
		if stale[i], err = us.container(fmt.Sprintf("stale%d", i)); err != nil {
			return err
		}
		return us.host.Do(func() error { return us.add(stale[i]) })
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %d stale attachments: %w", us.name, o.stale, err)
	}
	if err := os.RemoveAll(filepath.Join(us.host.Dir, "cache")); err != nil {
		return 0, err
	}
	// GC is of version 1.1.0 of the specification.
	n, err := us.host.Network(strings.Replace(patchbayList(false), `"1.0.0"`, `"1.1.0"`, 1))
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := n.GC(us.first); err != nil {
		return 0, fmt.Errorf("%s: GC: %w", us.name, err)
	}
	took := time.Since(start).Seconds()
	for _, x := range stale {
		if err := x.Close(); err != nil {
			return 0, err
		}
	}
	return took, us.left(1)
}

// left fails unless the switch has so many guests' ports.
func (c *contender) left(want int) error {
	var shown struct{ Ports int }
	if err := c.host.PatchbayJSON(&shown, "switch", "show", "bench"); err != nil {
		return err
	}
	if shown.Ports != want {
		return fmt.Errorf("%s: %d ports are left, not %d", c.name, shown.Ports, want)
	}
	return nil
}
