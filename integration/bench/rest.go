package main

import (
	"fmt"
	"time"

	"github.com/patchbay-net/patchbay/integration/host"
)

// rest is what patchbayd needs while nothing happens.
type rest struct {
	ports, wakeups      int
	residentMB, seconds float64
}

// measureRest waits until the daemon's memory is handed back and then counts how often
// any of its threads wakes up. It is idleness that is measured: the waits are timers.
//
// Every Go program has one that it cannot turn off: the runtime's monitor wakes once a
// minute (runtime.sysmon), and every other time has garbage collected. Who wakes up
// within a few seconds of it, again, is not the monitor: a second window tells.
func measureRest(d *host.Patchbayd, ports int) (rest, error) {
	const calm, idle = 20 * time.Second, 10 * time.Second
	<-time.After(calm)
	r := rest{ports: ports, seconds: idle.Seconds()}
	for range 2 {
		before, err := d.Wakeups()
		if err != nil {
			return rest{}, err
		}
		<-time.After(idle)
		after, err := d.Wakeups()
		if err != nil {
			return rest{}, err
		}
		if r.wakeups = after - before; r.wakeups == 0 {
			break
		}
	}
	var err error
	if r.residentMB, err = d.ResidentMB(); err != nil {
		return rest{}, fmt.Errorf("memory of patchbayd: %w", err)
	}
	return r, nil
}
