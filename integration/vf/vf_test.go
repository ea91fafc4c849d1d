// Package vf_test tries the whole way to a VF, on NICs which cannot be moved into a namespace:
// patchbayd, plugin and CNI plugin run where the machine itself is, which is a guest.
package vf_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
)

// vfHost is a machine whose hardware cannot be moved into a namespace: VFs come up where the
// machine itself is.
type vfHost struct {
	t    *testing.T
	root string
	env  []string
	peer *host.Netns
	last string // the result of the last ADD
}

// TestContainerOnVF: igb's VFs carry containers, in their namespaces under their names; who
// finds none free gets a pair; a VF comes home at DEL, also when patchbayd is killed.
func TestContainerOnVF(t *testing.T) {
	guest.Needs(t, guest.NICs)
	h := newVFHost(t)
	d := h.daemon()
	h.must("bin/patchbay", "switch", "add", "wan", "--uplink", "n0", "--sriov", "--host-access=false", "--yes")
	a, b, c := h.netns("a"), h.netns("b"), h.netns("c")
	h.cni("ADD", "a", "require")
	links, err := a.Links()
	ok(t, err)
	defer links.Close()
	if eth0, err := links.LinkByName("eth0"); err != nil || eth0.Type() != "device" || eth0.Attrs().Alias == "" {
		t.Errorf("eth0 is %+v, %v", eth0, err)
	}
	gateway := netip.MustParseAddr("10.9.0.1")
	ok(t, a.Ping(gateway, patience))
	h.cni("CHECK", "a", "require")
	h.cni("ADD", "b", "prefer")
	ok(t, b.Ping(gateway, patience))
	ok(t, b.Ping(netip.MustParseAddr("10.9.0.10"), patience)) // by the bridge and the NIC's own switch
	if got := h.must("bin/patchbay", "port", "show", "b"); !strings.Contains(got, "sriov prefer: in software, every VF of the NIC is held") {
		t.Errorf("b says\n%s", got)
	}
	if got := h.must("bin/patchbay", "switch", "show", "wan"); !strings.Contains(got, "sriov: 1 of 1 VFs used") {
		t.Errorf("the switch says\n%s", got)
	}
	h.cni("DEL", "a", "require")
	h.cni("ADD", "c", "require")
	ok(t, c.Ping(gateway, patience))
	ok(t, d.Kill())
	h.cni("DEL", "c", "require") // by the CNI plugin alone
	d = h.daemon()
	if _, err := d.Await(0, patience, "offload taken back"); err != nil {
		t.Error(err)
	}
	h.cni("ADD", "a", "require")
	ok(t, a.Ping(gateway, patience))
	h.cni("DEL", "a", "require")
	h.cni("DEL", "b", "prefer")
	h.must("bin/patchbay", "switch", "delete", "wan")
	ok(t, d.Stop())
}

func newVFHost(t *testing.T) *vfHost {
	t.Helper()
	root, err := filepath.Abs("../..")
	ok(t, err)
	dir, err := os.MkdirTemp("/run", "pb") // short enough for sockets, and root's alone
	ok(t, err)
	t.Cleanup(func() { ok(t, os.RemoveAll(dir)) })
	h := &vfHost{t: t, root: root}
	h.env = append(os.Environ(), "PATCHBAY_STATE_DIR="+dir+"/state", "PATCHBAY_RUN_DIR="+dir+"/run",
		"PATCHBAY_PLUGIN_DIRS="+dir+"/plugins", "PATCHBAY_PLUGIN_SETTINGS="+dir)
	ok(t, os.Mkdir(dir+"/plugins", 0o755))
	program, err := os.ReadFile(filepath.Join(root, "bin/plugins/patchbay-plugin-sriov"))
	ok(t, err)
	ok(t, os.WriteFile(dir+"/plugins/patchbay-plugin-sriov", program, 0o755))
	ok(t, os.WriteFile(dir+"/sriov.json", fmt.Appendf(nil, `{"nics": ["n0"], "vfs": 1, "record": %q}`, dir+"/record.json"), 0o600))
	h.must("modprobe", "igbvf")
	h.peer = h.netns("peer")
	h.must("ip", "link", "set", "n1", "netns", "/run/netns/pbpeer")
	for _, args := range [][]string{{"link", "set", "n1", "up"}, {"addr", "add", "10.9.0.1/24", "dev", "n1"}} {
		if out, err := h.peer.Run(append([]string{"ip"}, args...)...); err != nil {
			t.Fatal(out, err)
		}
	}
	return h
}

func (h *vfHost) netns(name string) *host.Netns {
	h.t.Helper()
	ok(h.t, os.MkdirAll("/run/netns", 0o755))
	ns, err := host.NewNetns("/run/netns/pb" + name)
	ok(h.t, err)
	h.t.Cleanup(func() { ok(h.t, ns.Close()) })
	return ns
}

func (h *vfHost) must(argv ...string) string {
	h.t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = h.root, h.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return string(out)
}

func (h *vfHost) daemon() *host.Patchbayd {
	h.t.Helper()
	here, err := host.Here()
	ok(h.t, err)
	d, err := (&host.Host{Root: h.root, Netns: here}).Patchbayd("patchbayd", h.env...)
	ok(h.t, err)
	h.t.Cleanup(func() {
		if h.t.Failed() {
			h.t.Logf("patchbayd:\n%s", d.Log())
		}
		_ = d.Process.Kill() // it may have ended
	})
	return d
}

// cni calls the plugin as a runtime does.
func (h *vfHost) cni(command, container, mode string) {
	h.t.Helper()
	cmd := exec.Command(filepath.Join(h.root, "bin/cni/patchbay"))
	cmd.Env = append(h.env, "CNI_COMMAND="+command, "CNI_CONTAINERID="+container, "CNI_NETNS=/run/netns/pb"+container,
		"CNI_IFNAME=eth0", "CNI_PATH="+filepath.Join(h.root, "bin/cni"))
	prev := ""
	if command == "CHECK" {
		prev = `,"prevResult":` + h.last
	}
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"cniVersion":"1.0.0","name":"net1","type":"patchbay","switch":"wan",
		"offload":{"sriov":{"mode":%q}},"ipam":{"type":"patchbay","ranges":[[{"subnet":"10.9.0.0/24","rangeStart":"10.9.0.10"}]]}%s}`, mode, prev))
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		h.t.Fatalf("%s of %s: %v\n%s", command, container, err, out.String())
	}
	if command == "ADD" {
		h.last = out.String()
	}
}

// patience is what anything may take where the machine is emulated and has much else to do.
const patience = time.Minute

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
