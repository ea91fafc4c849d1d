package integration_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/integration/host"
)

// crowded is a list with addresses for a thousand containers.
const crowded = `{"cniVersion":"1.1.0","name":"net1","plugins":[{"type":"patchbay",
	"switch":{"name":"prod","type":"internal","gateway":["10.0.0.1/20"],"masquerade":true},
	"ipam":{"type":"patchbay","ranges":[[{"subnet":"10.0.0.0/20"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}`

// TestConcurrent adds 8 x 125 containers to one switch and removes them.
func TestConcurrent(t *testing.T) {
	const workers, each = 8, 125
	h := newHost(t)
	_, err := h.Patchbay("mac", "pool", "set", "--first", "0a:77:00:00:00:00", "--last", "0a:77:00:00:0f:ff")
	ok(t, err)
	n := h.network(crowded)
	var all []*host.Container
	for i := range workers * each {
		all = append(all, h.container(fmt.Sprintf("c%d", i)))
	}
	parallel := func(what string, do func(*host.Container) error) {
		start := time.Now()
		var group sync.WaitGroup
		for w := range workers {
			group.Go(func() {
				for i := range each {
					if err := do(all[w*each+i]); err != nil {
						t.Errorf("%s: %v", what, err)
						return
					}
				}
			})
		}
		group.Wait()
		t.Logf("%d %s, %d at a time, in %.1f s", len(all), what, workers, time.Since(start).Seconds())
	}
	parallel("ADD", func(c *host.Container) error { _, err := n.Add(c); return err })
	if t.Failed() {
		return
	}
	macs, addrs := map[string]bool{}, map[string]bool{}
	for _, p := range h.ports() {
		macs[p.MAC] = true
		addrs[p.Addresses[0].Prefix.String()] = true
	}
	if len(macs) != len(all) || len(addrs) != len(all) {
		t.Errorf("%d MACs and %d addresses for %d containers", len(macs), len(addrs), len(all))
	}
	for _, c := range []*host.Container{all[0], all[len(all)/2], all[len(all)-1]} {
		reaches(t, c.Netns, "10.0.0.1")
	}
	parallel("DEL", n.Del)
}
