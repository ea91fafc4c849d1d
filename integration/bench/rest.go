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

// measureRest waits until the daemon's memory is handed back and then counts how
// often any of its threads wakes up. It is idleness that is measured: the waits are
// timers.
func measureRest(d *host.Patchbayd, ports int) (rest, error) {
	const calm, idle = 20 * time.Second, 10 * time.Second
	<-time.After(calm)
	before, err := d.Wakeups()
	if err != nil {
		return rest{}, err
	}
	<-time.After(idle)
	after, err := d.Wakeups()
	if err != nil {
		return rest{}, err
	}
	mb, err := d.ResidentMB()
	if err != nil {
		return rest{}, fmt.Errorf("memory of patchbayd: %w", err)
	}
	return rest{ports: ports, wakeups: after - before, residentMB: mb, seconds: idle.Seconds()}, nil
}
