package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/patchbay-net/patchbay/integration/host"
)

// contender is one way to attach containers, on a host of its own. Its functions
// are called on threads that are in the host's namespace.
type contender struct {
	name     string
	host     *host.Host
	add, del func(*host.Container) error
	park     func(parking *host.Netns, i int) error // makes the i-th port that only fills the switch
	plain    string                                 // the bridge that plain pairs join afterwards; "" if park does it
	pool     []*host.Container
	first    *host.Container // attached for good
	samples  map[key][]float64
	resident *floor // of the floor alone
	daemon   *host.Patchbayd
}

// key names a series of samples.
type key struct {
	ports int
	what  string // "add" and "del" in ms, "add/s" and "del/s" with many at a time
}

// The names of contenders that ratios refer to.
const (
	ours      = "patchbay"
	oursNAT   = "patchbay, masquerade"
	resident  = "patchbay, with patchbayd"
	reference = "bridge + host-local"
	theFloor  = "floor"
)

func patchbayList(masquerade bool) string {
	return fmt.Sprintf(`{"cniVersion":"1.0.0","name":"bench","plugins":[{"type":"patchbay",
		"switch":{"name":"bench","type":"internal","gateway":["10.1.0.1/16"],"masquerade":%v},
		"ipam":{"type":"patchbay","ranges":[[{"subnet":"10.1.0.0/16"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}`, masquerade)
}

func referenceList(dir string) string {
	return fmt.Sprintf(`{"cniVersion":"1.0.0","name":"bench","plugins":[{"type":"bridge","bridge":"bench0","isGateway":true,
		"ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":"10.1.0.0/16"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}`, dir)
}

// contenders makes the hosts, with a pool of containers each and one attached for
// good, so that switches exist before anything is measured.
func contenders(dir string, o options) ([]*contender, error) {
	root, err := install(dir)
	if err != nil {
		return nil, err
	}
	var cs []*contender
	for i, name := range []string{ours, oursNAT, resident, reference, theFloor} {
		at := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(at, 0o700); err != nil {
			return cs, err
		}
		h, err := host.New(at)
		if err != nil {
			return cs, err
		}
		h.Root = root
		c := &contender{name: name, host: h, samples: map[key][]float64{}}
		cs = append(cs, c)
		if err := c.equip(o); err != nil {
			return cs, fmt.Errorf("%s: %w", name, err)
		}
	}
	return cs, nil
}

// equip gives the contender its functions and its containers.
func (c *contender) equip(o options) error {
	var err error
	switch c.name {
	case ours, oursNAT:
		err = c.equipPatchbay(c.name == oursNAT)
	case resident:
		if c.daemon, err = c.host.Patchbayd("patchbayd"); err == nil {
			err = c.equipPatchbay(false)
		}
	case reference:
		if err = c.equipPlugin(referenceList(filepath.Join(c.host.Dir, "ipam"))); err == nil {
			c.park, c.plain = c.parkPlain, "bench0"
		}
	case theFloor:
		if err = c.equipFloor(o.conc); err == nil {
			c.park, c.plain = c.parkPlain, "floor0"
		}
	}
	if err != nil {
		return err
	}
	for i := range o.n {
		x, err := c.container(fmt.Sprintf("c%d", i))
		if err != nil {
			return err
		}
		c.pool = append(c.pool, x)
	}
	if c.first, err = c.container("first"); err != nil {
		return err
	}
	return c.host.Do(func() error { return c.add(c.first) })
}

// container makes a container of which the bench holds nothing open.
func (c *contender) container(id string) (*host.Container, error) {
	x, err := c.host.Container(id)
	if err == nil {
		err = x.LetGo()
	}
	return x, err
}

func (c *contender) equipPlugin(list string) error {
	n, err := c.host.NetworkHere(list)
	if err != nil {
		return err
	}
	c.add = func(x *host.Container) error { _, err := n.AddRaw(x); return err }
	c.del = n.Del
	return nil
}

// equipPatchbay has real ports of ours fill the switch: interfaces p0, p1, ... of
// one container. They have no routes, which would be in each other's way.
func (c *contender) equipPatchbay(masquerade bool) error {
	if _, err := c.host.Patchbay("mac", "pool", "set", "--first", "0a:be:00:00:00:00", "--last", "0a:be:00:00:ff:ff"); err != nil {
		return err
	}
	list := patchbayList(masquerade)
	if err := c.equipPlugin(list); err != nil {
		return err
	}
	n, err := c.host.Network(strings.Replace(list, `,"routes":[{"dst":"0.0.0.0/0"}]`, "", 1))
	if err != nil {
		return err
	}
	c.park = func(parking *host.Netns, i int) error {
		x := &host.Container{Netns: parking}
		x.ContainerID, x.NetNS, x.IfName = "parking", parking.Path, fmt.Sprintf("p%d", i)
		_, err := n.AddRaw(x)
		return err
	}
	return nil
}

func (c *contender) equipFloor(conc int) error {
	f, err := newFloor(c.host, conc)
	if err != nil {
		return err
	}
	c.resident, c.add, c.del = f, f.add, f.del
	return nil
}

// close ends what the contender keeps open.
func (c *contender) close() error {
	if c.resident != nil {
		c.resident.close()
	}
	var err error
	if c.daemon != nil {
		err = c.daemon.Stop()
	}
	return errors.Join(err, c.host.Close())
}
