package lab

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/patchbay-net/patchbay/integration/host"
)

// Cell is one question of the matrix and its answer.
type Cell struct {
	From, To Point
	Dst      netip.Addr
	Want     bool
	Got      bool
	Err      error // why not, or what went wrong
}

// Ok reports whether the answer is the expected one.
func (c Cell) Ok() bool {
	return c.Want == c.Got && (c.Err == nil || errors.Is(c.Err, host.ErrUnreachable))
}

// want says who should reach whom. A guest of the Internal switch leaves it under
// the host's address, and nobody enters it unasked; the Private switch is closed.
func want(from, to Point) bool {
	switch {
	case from.Switch == "box" || to.Switch == "box":
		return from.Switch == to.Switch
	case to.Switch == "nat":
		return from.Switch == "nat" || from.Name == "host"
	}
	return true
}

// How long to wait for an answer that must come, and for one that must not.
const (
	patience = 5 * time.Second
	silence  = 700 * time.Millisecond
)

// Probe asks every point to ping every other, over IPv4 and IPv6, all at once.
func (l *Lab) Probe() []Cell {
	var cells []Cell
	for _, from := range l.Points {
		for _, to := range l.Points {
			if from.Name == to.Name {
				continue
			}
			addrs := to.Addresses[from.Switch]
			if addrs == nil {
				addrs = to.Addresses[anywhere]
			}
			for _, dst := range addrs {
				cells = append(cells, Cell{From: from, To: to, Dst: dst, Want: want(from, to)})
			}
		}
	}
	var all sync.WaitGroup
	for i := range cells {
		all.Go(func() { cells[i].ask() })
	}
	all.Wait()
	return cells
}

func (c *Cell) ask() {
	within := silence
	if c.Want {
		within = patience
	}
	c.Err = c.From.Netns.Ping(c.Dst, within)
	c.Got = c.Err == nil
}
