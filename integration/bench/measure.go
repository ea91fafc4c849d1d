package main

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/patchbay-net/patchbay/integration/host"
)

// sequential measures ADD and then DEL of one container after the other. The
// contenders take turns, in changing order, so that whatever else the machine
// does hits all alike; and the number of ports stays the same.
func sequential(cs []*contender, ports int) error {
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread has been elsewhere
		errs <- func() error {
			for i := range cs[0].pool {
				for k := range cs {
					if i%2 == 1 {
						k = len(cs) - 1 - k
					}
					if err := cs[k].once(cs[k].pool[i], ports); err != nil {
						return fmt.Errorf("%s: %w", cs[k].name, err)
					}
				}
			}
			return nil
		}()
	}()
	return <-errs
}

func (c *contender) once(x *host.Container, ports int) error {
	if err := c.host.Enter(); err != nil {
		return err
	}
	start := time.Now()
	if err := c.add(x); err != nil {
		return fmt.Errorf("ADD: %w", err)
	}
	c.record(ports, "add", milliseconds(time.Since(start)))
	start = time.Now()
	if err := c.del(x); err != nil {
		return fmt.Errorf("DEL: %w", err)
	}
	c.record(ports, "del", milliseconds(time.Since(start)))
	return nil
}

// concurrent measures how many ADDs, and then DELs, a second there are with
// several at a time. With many ports on the switch there is room for few more.
func (c *contender) concurrent(ports, workers int) error {
	const room = 1023 - 2 // ports of a Linux bridge, but for the host's and the first container's
	pool := c.pool[:min(len(c.pool), room-ports)]
	for _, phase := range []struct {
		what string
		do   func(*host.Container) error
	}{{"add/s", c.add}, {"del/s", c.del}} {
		var next atomic.Int64
		var group sync.WaitGroup
		errs := make([]error, workers)
		start := time.Now()
		for w := range workers {
			group.Go(func() {
				runtime.LockOSThread() // never unlocked, as above
				if errs[w] = c.host.Enter(); errs[w] != nil {
					return
				}
				for i := int(next.Add(1)) - 1; i < len(pool); i = int(next.Add(1)) - 1 {
					if errs[w] = phase.do(pool[i]); errs[w] != nil {
						return
					}
				}
			})
		}
		group.Wait()
		if err := errors.Join(errs...); err != nil {
			return fmt.Errorf("%s, %s: %w", c.name, phase.what, err)
		}
		c.record(ports, phase.what, float64(len(pool))/time.Since(start).Seconds())
	}
	return nil
}

func (c *contender) record(ports int, what string, value float64) {
	k := key{ports, what}
	c.samples[k] = append(c.samples[k], value)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
