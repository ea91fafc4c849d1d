package pool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/plugins/sriov/nic"
	"github.com/patchbay-net/patchbay/plugins/sriov/pool"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/conformance"
	"github.com/patchbay-net/patchbay/sdk/host"
)

// TestIGB is all that needs VFs: those of igb, in one guest. Its NICs are cabled n0 to n1 and
// n2 to n3.
func TestIGB(t *testing.T) {
	guest.Needs(t, guest.NICs)
	run(t, "modprobe", "igbvf")
	for _, name := range []string{"n0", "n1", "n2", "n3"} {
		run(t, "ip", "link", "set", name, "up")
	}
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"as many as there are", exhaustion},
		{"does what the port may", settings},
		{"nothing is left of who had it", nothingLeft},
		{"VLANs keep VFs apart", isolation},
		{"netdev with its owner", away},
		{"namespace that ends", namespaceEnds},
		{"VFs of others", foreign},
		{"VF of a VM", ofVM},
		{"VF that a VM seized", seizedByVM},
		{"killed at any point", killed},
		{"NIC that is reset", reset},
		{"driver that goes and comes", rebind},
		{"conforms in memory", conformsInMemory},
		{"conforms as a program", conformsAsProgram},
	} {
		begun := time.Now()
		t.Run(c.name, c.test)
		t.Logf("%s: %s", c.name, time.Since(begun).Round(10*time.Millisecond))
	}
}

// patience is what a check may take where the machine has much else to do.
const patience = 5 * time.Minute

func conformsInMemory(t *testing.T) {
	target := conformance.InMemory(func() sdk.Provider { return pool.New(nic.Open(), "test") })
	conformance.Test(t, target, conformance.Options{Config: config("n2", 2, newRecord(t)), Timeout: patience})
}

func conformsAsProgram(t *testing.T) {
	limits := host.DefaultLimits() // in an emulated machine all takes longer
	limits.Start, limits.Read, limits.Change = patience, patience, patience
	target, err := conformance.ProgramWithin(filepath.Join("../../../bin/plugins", "patchbay-plugin-sriov"), limits, nil)
	if err != nil {
		t.Fatal(err)
	}
	conformance.Test(t, target, conformance.Options{Config: config("n2", 2, newRecord(t)), Timeout: patience})
}

// config is a configuration for one NIC.
func config(nic string, vfs int, record string) []byte {
	return fmt.Appendf(nil, `{"nics": [%q], "vfs": %d, "record": %q}`, nic, vfs, record)
}

func newRecord(t *testing.T) string { return filepath.Join(t.TempDir(), "sriov.json") }

// noVFs takes all VFs from a NIC, as after a boot.
func noVFs(t *testing.T, name string) {
	t.Helper()
	run(t, "sh", "-c", "echo 0 >/sys/class/net/"+name+"/device/sriov_numvfs")
}

// run runs a program that has to succeed, and says what it printed.
func run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// card is a NIC with a plugin that serves it.
type card struct {
	*testing.T
	*pool.Provider
	host *nic.Host
	addr string
}

// newCard is a NIC with none or three idle VFs, and a plugin that may make three.
func newCard(t *testing.T, name string) *card {
	t.Helper()
	if n, err := os.ReadFile("/sys/class/net/" + name + "/device/sriov_numvfs"); err != nil || string(n) != "3\n" {
		noVFs(t, name)
	}
	return withRecord(t, name, newRecord(t))
}

// withRecord is a NIC whose plugin goes on with a record.
func withRecord(t *testing.T, name, record string) *card {
	t.Helper()
	c := &card{t, pool.New(nic.Open(), "test"), nic.Open(), addrOf(t, name)}
	d, err := c.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := d.Schema.Parse(config(c.addr, 3, record))
	if err == nil {
		err = c.Configure(t.Context(), parsed)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// addrOf is the PCI address of a NIC.
func addrOf(t *testing.T, name string) string {
	t.Helper()
	device, err := filepath.EvalSymlinks("/sys/class/net/" + name + "/device")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(device)
}

// request is what the n-th port asks for.
func (c *card) request(n int) sdk.Request {
	return sdk.Request{
		Ref: sdk.Ref{Port: fmt.Sprint("port-", n), Feature: vswitch.SRIOV}, NIC: c.addr, Generation: 1,
		MAC: vswitch.MAC{2, 0, 0, 0, 0, byte(n)}, Owner: vswitch.OwnerContainer, QueuePairs: 1,
	}
}

// get demands a VF.
func (c *card) get(r sdk.Request) sdk.Grant {
	c.Helper()
	g, err := c.Ensure(c.Context(), r)
	if err != nil {
		c.Fatalf("%s: %v", r.Port, err)
	}
	if d, err := c.host.Netdev(g.VF.Netdev); g.VF.Netdev != "" && (err != nil || d.MAC != r.MAC) {
		c.Fatalf("%s has %s of %s (%v), want %s", r.Port, g.VF.Netdev, d.MAC, err, r.MAC)
	}
	return g
}

func (c *card) free(r sdk.Request) {
	c.Helper()
	if err := c.Release(c.Context(), r.Ref, r.Generation); err != nil {
		c.Fatalf("release %s: %v", r.Port, err)
	}
}

// denied demands a reason.
func (c *card) denied(r sdk.Request, why vswitch.Reason) {
	c.Helper()
	g, err := c.Ensure(c.Context(), r)
	if sdk.ReasonOf(err) != why {
		c.Errorf("%s: %+v, %v; want %s", r.Port, g, err, why)
	}
}

// holds is what the NIC holds about a VF.
func (c *card) holds(index int) nic.Settings {
	c.Helper()
	pf, err := c.host.PF(c.addr)
	if err != nil {
		c.Fatal(err)
	}
	all, err := c.host.Settings(pf)
	if err != nil {
		c.Fatal(err)
	}
	return all[index]
}

// idle is holds of a VF that nobody has: a MAC that its driver made up is none.
func (c *card) idle(index int) nic.Settings {
	c.Helper()
	s := c.holds(index)
	vf, err := c.host.VF(c.addr, index)
	if err != nil {
		c.Fatal(err)
	}
	if d, err := c.host.Netdev(vf.Netdev()); err != nil {
		c.Errorf("VF %d has no netdev: %v", index, err)
	} else if d.Random {
		s.MAC = vswitch.MAC{}
	}
	return s
}

// capability waits for the NIC to be able to do something.
func (c *card) capability(what string, ok func(sdk.NIC) bool) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), 20*time.Second)
	defer cancel()
	var last sdk.Inventory
	err := c.WatchInventory(ctx, func(i sdk.Inventory) error {
		last = i
		var n sdk.NIC
		if len(i.NICs) == 1 {
			n = i.NICs[0]
		}
		if ok(n) {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		c.Fatalf("%s: %v; the last inventory is %+v", what, err, last)
	}
}

// until waits for what the kernel tells of.
func (c *card) until(what string, is func() bool) {
	c.Helper()
	w, err := c.host.Watch()
	if err != nil {
		c.Fatal(err)
	}
	defer w.Close()
	ctx, cancel := context.WithTimeout(c.Context(), 20*time.Second)
	defer cancel()
	for !is() {
		if err := w.Next(ctx); err != nil {
			c.Fatalf("%s: %v", what, err)
		}
	}
}

var errEnough = errors.New("enough")

// events tells what happens from now on.
func (c *card) events() <-chan sdk.Event {
	c.Helper()
	ch := make(chan sdk.Event, 64)
	listen, err := c.EventsFromNow(c.Context(), func(e sdk.Event) error { ch <- e; return nil })
	if err != nil {
		c.Fatal(err)
	}
	go func() { _ = listen() }() // it ends with the test
	return ch
}

// await waits for an event.
func (c *card) await(ch <-chan sdk.Event, kind sdk.EventKind, ref sdk.Ref) {
	c.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case e := <-ch:
			if e.Kind == kind && e.Ref == ref && e.NIC == c.addr {
				return
			}
		case <-timeout:
			c.Fatalf("no %s of %s came", kind, ref)
		}
	}
}

// netns makes a namespace that ends with the test, if not before.
func netns(t *testing.T, name string) {
	t.Helper()
	run(t, "ip", "netns", "add", name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() }) // some tests do it themselves
}

// into moves a netdev into a namespace, as containers get it.
func into(t *testing.T, netdev, ns, address string) {
	t.Helper()
	run(t, "ip", "link", "set", netdev, "netns", ns, "name", "net1")
	run(t, "ip", "-n", ns, "address", "add", address, "dev", "net1")
	run(t, "ip", "-n", ns, "link", "set", "net1", "up")
}

// reaches demands that a namespace reaches an address, as soon as its link is up.
func reaches(t *testing.T, ns, address string) {
	t.Helper()
	run(t, "ip", "netns", "exec", ns, "ping", "-q", "-c", "1", "-w", "15", "-i", "0.2", address)
}

// apart demands that it does not.
func apart(t *testing.T, ns, address string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ip", "netns", "exec", ns, "ping", "-q", "-c", "3", "-w", "2", "-i", "0.2", address).CombinedOutput(); err == nil {
		t.Errorf("%s reaches %s:\n%s", ns, address, out)
	}
}
