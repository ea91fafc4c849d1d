package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// crowd is what a switch of ours costs with many more ports than a bridge takes.
type crowd struct {
	ports    int
	perMB    float64 // of memory, each container with its namespace and its pair
	deletion float64 // of the switch with all of them, in seconds
}

// gather puts containers on the switch of ours, each with a namespace of its own, until
// there are so many, and measures ADD and DEL then.
func gather(cs []*contender, o options) (crowd, error) {
	us := find(cs, ours)
	if o.crowd <= o.ports {
		return crowd{}, nil
	}
	if err := silence(cs); err != nil {
		return crowd{}, err
	}
	before, err := available()
	if err != nil {
		return crowd{}, err
	}
	more := o.crowd - o.ports
	var there atomic.Int64
	err = us.fill(more, func(i int) error {
		x, err := us.container(fmt.Sprintf("crowd%d", i))
		if err == nil {
			err = us.host.Do(func() error { return us.add(x) })
		}
		if n := int(there.Add(1)); n%500 == 0 {
			tell("%d of %d containers are there", o.ports+n, o.crowd)
		}
		return err
	})
	if err != nil {
		return crowd{}, fmt.Errorf("%s: a crowd of %d: %w", us.name, o.crowd, err)
	}
	after, err := available()
	if err != nil {
		return crowd{}, err
	}
	for round := range o.rounds {
		tell("%d ports, round %d of %d", o.crowd, round+1, o.rounds)
		if err := sequential([]*contender{us}, o.crowd); err != nil {
			return crowd{}, err
		}
	}
	tell("the switch goes with its %d ports", o.crowd)
	start := time.Now()
	if _, err := us.host.Patchbay("switch", "delete", "bench", "--force"); err != nil {
		return crowd{}, err
	}
	took := time.Since(start).Seconds()
	tell("it went in %.1f s", took)
	return crowd{ports: o.crowd, perMB: (before - after) / float64(more), deletion: took}, nil
}

// silence takes down the bridges that are not ours: their 1000 parked ports go on looking
// for routers, each with a frame for all the others.
func silence(cs []*contender) error {
	for _, c := range cs {
		if c.plain == "" {
			continue
		}
		l, err := c.host.Links()
		if err != nil {
			return err
		}
		bridge, err := l.LinkByName(c.plain)
		if err == nil {
			err = l.LinkSetDown(bridge)
		}
		l.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// available is the machine's free memory in MB; what else runs counts too.
func available() (float64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb * 1024 / 1e6, err
		}
	}
	return 0, fmt.Errorf("no MemAvailable in /proc/meminfo")
}

// words are what there is to tell of the crowd besides the bars, a line of Markdown.
func (c crowd) words(us *contender) string {
	return fmt.Sprintf("With %d ports on its switch patchbay takes %.2f (%.2f) ms for an ADD and %.1f (%.1f) ms for a DEL.\n",
		c.ports, us.at(c.ports, "add", 50), us.at(c.ports, "add", 90), us.at(c.ports, "del", 50), us.at(c.ports, "del", 90))
}
