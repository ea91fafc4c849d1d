package integration_test

import (
	"iter"
	"strings"
	"sync"
	"testing"

	"github.com/patchbay-net/patchbay/integration/host"
)

// ids yields the container ids of ports.
func ids(ports []portRecord) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, p := range ports {
			if !yield(p.Owner.ID) {
				return
			}
		}
	}
}

// single is a list whose switch has room for one container: an address that is
// not freed is missed by the next ADD.
const single = `{"cniVersion":"1.1.0","name":"net1","plugins":[{"type":"patchbay",
	"switch":{"name":"prod","type":"internal","gateway":["10.0.0.1/30"],"masquerade":true},
	"ipam":{"type":"patchbay","ranges":[[{"subnet":"10.0.0.0/30"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}`

const singleConfig = `{"cniVersion":"1.1.0","name":"net1","type":"patchbay",
	"switch":{"name":"prod","type":"internal","gateway":["10.0.0.1/30"],"masquerade":true},
	"ipam":{"type":"patchbay","ranges":[[{"subnet":"10.0.0.0/30"}]],"routes":[{"dst":"0.0.0.0/0"}]}}`

// TestDel frees everything, however little the runtime still knows.
func TestDel(t *testing.T) {
	for _, x := range []struct {
		name string
		del  func(h *testHost, n *host.Network, c *host.Container) error
	}{
		{"as added", func(_ *testHost, n *host.Network, c *host.Container) error { return n.Del(c) }},
		{"namespace removed before", func(_ *testHost, n *host.Network, c *host.Container) error {
			if err := c.Close(); err != nil {
				return err
			}
			return n.Del(c)
		}},
		{"without namespace and prevResult", func(h *testHost, _ *host.Network, _ *host.Container) error {
			if r := h.exec(singleConfig, "CNI_COMMAND=DEL", "CNI_CONTAINERID=one", "CNI_NETNS=", "CNI_IFNAME=eth0"); r.code != 0 {
				h.t.Errorf("DEL: %s", r.stdout)
			}
			return nil
		}},
		{"namespace is another's file", func(h *testHost, _ *host.Network, c *host.Container) error {
			if err := c.Unmount(); err != nil {
				return err
			}
			if r := h.exec(singleConfig, "CNI_COMMAND=DEL", "CNI_CONTAINERID=one", "CNI_NETNS=/etc/passwd", "CNI_IFNAME=eth0"); r.code != 0 {
				h.t.Errorf("DEL: %s", r.stdout)
			}
			return nil
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			h := newHost(t)
			n := h.network(single)
			c, _ := h.attached(n, "one")
			ok(t, x.del(h, n, c))
			ok(t, n.Del(c))
			if out, err := h.Run("ip", "link", "show", "type", "veth"); err != nil || len(h.ports()) > 0 {
				t.Errorf("after DEL: ports %v, %s (%v)", h.ports(), out, err)
			}
			again, _ := h.attached(n, "two") // the only address is free again
			ok(t, n.Del(again))
		})
	}
}

// TestDelOfEdited: the network's configuration was edited while its containers ran,
// and ADD would refuse it now.
func TestDelOfEdited(t *testing.T) {
	for name, edited := range map[string]string{
		"unknown key":    strings.Replace(singleConfig, `"ipam"`, `"vlan":5,"macSpofing":1,"ipam"`, 1),
		"broken":         `{"cniVersion":"1.1.0","name":"net1","switch":5,"ipam":"x","dns":7,"prevResult":[],"runtimeConfig":1}`,
		"another ipam":   strings.Replace(singleConfig, `"ipam":{"type":"patchbay"`, `"ipam":{"type":"host-local"`, 1),
		"another switch": strings.Replace(singleConfig, `"prod"`, `"other"`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			for _, command := range []string{"DEL", "GC"} {
				c := h.container("one-" + command)
				if r := h.exec(singleConfig, verb(c, "ADD")...); r.code != 0 {
					t.Fatalf("ADD, which shows that the address is free: %s", r.stdout)
				}
				stdin := strings.Replace(edited, `{`, `{"cni.dev/valid-attachments":[],`, 1)
				if r := h.exec(stdin, verb(c, command)...); r.code != 0 {
					t.Errorf("%s: %s", command, r.stdout)
				}
				if left := h.ports(); len(left) > 0 {
					t.Fatalf("ports after %s: %v", command, left)
				}
			}
		})
	}
}

// TestDelOfNothing succeeds, also before there is any switch.
func TestDelOfNothing(t *testing.T) {
	h := newHost(t)
	for range 2 {
		if r := h.exec(singleConfig, "CNI_COMMAND=DEL", "CNI_CONTAINERID=nobody", "CNI_NETNS=", "CNI_IFNAME=eth0"); r.code != 0 || r.stdout != "" {
			t.Errorf("DEL: exit %d %s", r.code, r.stdout)
		}
	}
}

// TestAddRacesDel: a runtime that gives up on an ADD sends DEL beside it. Whoever
// comes first, the DEL that follows leaves nothing.
func TestAddRacesDel(t *testing.T) {
	h := newHost(t)
	n := h.network(single)
	c := h.container("one")
	for range 25 {
		var both sync.WaitGroup
		both.Go(func() {
			// It may fail when DEL takes the port away under it; what counts is what is left.
			_ = h.exec(singleConfig, "CNI_COMMAND=ADD", "CNI_CONTAINERID=one", "CNI_NETNS="+c.NetNS, "CNI_IFNAME=eth0")
		})
		both.Go(func() {
			if r := h.exec(singleConfig, "CNI_COMMAND=DEL", "CNI_CONTAINERID=one", "CNI_NETNS="+c.NetNS, "CNI_IFNAME=eth0"); r.code != 0 {
				t.Errorf("DEL beside ADD: %s", r.stdout)
			}
		})
		both.Wait()
		ok(t, n.Del(c))
		if left := h.ports(); len(left) > 0 {
			t.Fatalf("ports left: %v", left)
		}
	}
	after, _ := h.attached(n, "two")
	ok(t, n.Del(after))
}
