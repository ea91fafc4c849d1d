package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/patchbay-net/patchbay/integration/host"
)

// stampede measures how long it takes until as many containers are gone that are all
// deleted at the same moment: a node that is drained. The contenders take turns.
func stampede(cs []*contender, o options) error {
	if o.stampede == 0 {
		return nil
	}
	pools := make(map[string][]*host.Container)
	for _, c := range cs {
		for i := range o.stampede {
			x, err := c.container(fmt.Sprintf("herd%d", i))
			if err != nil {
				return err
			}
			pools[c.name] = append(pools[c.name], x)
		}
	}
	for round := range o.rounds {
		fmt.Fprintf(os.Stderr, "bench: %d deleted at once, round %d of %d\n", o.stampede, round+1, o.rounds)
		for _, c := range cs {
			pool := pools[c.name]
			err := c.fill(len(pool), func(i int) error { return c.host.Do(func() error { return c.add(pool[i]) }) })
			if err != nil {
				return fmt.Errorf("%s: ADD of %d: %w", c.name, o.stampede, err)
			}
			if err := c.rush(pool); err != nil {
				return fmt.Errorf("%s: DEL of %d at once: %w", c.name, o.stampede, err)
			}
		}
	}
	return nil
}

// rush deletes all at the same moment.
func (c *contender) rush(pool []*host.Container) error {
	errs := make([]error, len(pool))
	var ready, done sync.WaitGroup
	now := make(chan struct{})
	for i, x := range pool {
		ready.Add(1)
		done.Go(func() {
			runtime.LockOSThread() // never unlocked: the thread has been elsewhere
			errs[i] = c.host.Enter()
			ready.Done()
			if <-now; errs[i] == nil {
				errs[i] = c.del(x)
			}
		})
	}
	ready.Wait()
	start := time.Now()
	close(now)
	done.Wait()
	c.record(len(pool), "stampede", milliseconds(time.Since(start)))
	return errors.Join(errs...)
}

// stampedeTable has a line for each contender.
func stampedeTable(cs []*contender, n int) string {
	text := fmt.Sprintf("| %d containers deleted at once | ms | x reference |\n|---|---|---|\n", n)
	for _, c := range cs {
		text += fmt.Sprintf("| %s | %.0f | %.2f |\n", c.name, c.at(n, "stampede", 50), c.over(cs, reference, n, "stampede"))
	}
	return text + "\n"
}
