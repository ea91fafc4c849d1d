package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/patchbay-net/patchbay/integration/host"
)

// TestDeletedAtOnce deletes many containers at the same moment where no patchbayd is, so
// that processes of the plugin work for each other. One of them dies at it, as by kill -9,
// at one point after the other: the others end well, and it can be done again.
func TestDeletedAtOnce(t *testing.T) {
	h := newHost(t)
	const many = 8
	del := func(c *host.Container, env ...string) (string, error) {
		var text []byte
		err := h.Do(func() (err error) {
			p := exec.Command(filepath.Join(h.Root, "bin/faults/cni/patchbay"))
			p.Env = slices.Concat(h.Env(), verb(c, "DEL"), env)
			p.Stdin = strings.NewReader(config("1.1.0", ""))
			text, err = p.CombinedOutput()
			return err
		})
		return string(text), err
	}
	for point := range 6 {
		var all []*host.Container
		for i := range many {
			c := h.container(fmt.Sprintf("c%d-%d", point, i))
			all = append(all, c)
			if r := h.exec(config("1.1.0", ""), verb(c, "ADD")...); r.code != 0 {
				t.Fatalf("ADD: %s", r.stdout)
			}
		}
		var group sync.WaitGroup
		for i, c := range all {
			group.Go(func() {
				var dies []string
				if i == 0 && point > 0 {
					dies = []string{fmt.Sprintf("PATCHBAY_DIE_AT=%d", point)}
				}
				if out, err := del(c, dies...); err != nil && dies == nil {
					t.Errorf("point %d: DEL of %s: %v: %s", point, c.ContainerID, err, out)
				}
			})
		}
		group.Wait()
		if out, err := del(all[0]); err != nil {
			t.Errorf("point %d: again: %v: %s", point, err, out)
		}
		if left := h.ports(); len(left) > 0 {
			t.Errorf("point %d: left: %v", point, left)
		}
	}
	if _, err := os.Stat(filepath.Join(h.RunDir(), "gathering.sock")); err == nil {
		out, err := del(h.container("another")) // it takes the place of one that was killed
		if _, left := os.Stat(filepath.Join(h.RunDir(), "gathering.sock")); err != nil || left == nil {
			t.Errorf("a socket that was left stays: %v, %s", err, out)
		}
	}
	h.patchbay("switch", "delete", "prod")
}
