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

	"github.com/patchbay-net/patchbay/integration/host"
)

// vfHost is a machine whose hardware cannot be moved into a namespace: VFs come up where the
// machine itself is.
type vfHost struct {
	t    *testing.T
	root string
	env  []string
	peer *host.Netns
	nic  string            // the PCI address of n0
	last map[string]string // the results of ADDs, by the container
	d    *host.Patchbayd
	took map[string][]time.Duration // by the plugin's verb and the mode
}

func newVFHost(t *testing.T) *vfHost {
	t.Helper()
	root, err := filepath.Abs("../..")
	ok(t, err)
	dir, err := os.MkdirTemp("/run", "pb") // short enough for sockets, and root's alone
	ok(t, err)
	t.Cleanup(func() { ok(t, os.RemoveAll(dir)) })
	h := &vfHost{t: t, root: root, last: make(map[string]string), took: make(map[string][]time.Duration)}
	h.nic = h.device("n0", "device")
	h.env = append(os.Environ(), "PATCHBAY_STATE_DIR="+dir+"/state", "PATCHBAY_RUN_DIR="+dir+"/run",
		"PATCHBAY_PLUGIN_DIRS="+dir+"/plugins", "PATCHBAY_PLUGIN_SETTINGS="+dir)
	ok(t, os.Mkdir(dir+"/plugins", 0o755))
	program, err := os.ReadFile(filepath.Join(root, "bin/plugins/patchbay-plugin-sriov"))
	ok(t, err)
	ok(t, os.WriteFile(dir+"/plugins/patchbay-plugin-sriov", program, 0o755))
	ok(t, os.WriteFile(dir+"/sriov.json", fmt.Appendf(nil, `{"nics": [%q], "vfs": 2, "record": %q}`, h.nic, dir+"/record.json"), 0o600))
	t.Cleanup(func() {
		if h.d == nil {
			return
		}
		if t.Failed() {
			t.Logf("patchbayd:\n%s", h.d.Log())
		}
		_ = h.d.Process.Kill() // it may have ended
	})
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

// says fails unless what a command prints has the words.
func (h *vfHost) says(words string, argv ...string) {
	h.t.Helper()
	if out := h.must(argv...); !strings.Contains(out, words) {
		h.t.Errorf("%v does not say %q:\n%s", argv, words, out)
	}
}

// awaits waits until patchbayd logs the words, after its first n lines.
func (h *vfHost) awaits(n int, words ...string) {
	h.t.Helper()
	if _, err := h.d.Await(n, patience, words...); err != nil {
		h.t.Fatal(err)
	}
}

// reaches fails unless a container reaches an address.
func (h *vfHost) reaches(n *host.Netns, addr string) {
	h.t.Helper()
	ok(h.t, n.Ping(netip.MustParseAddr(addr), patience))
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

// device is the PCI address that a link of a NIC's points at.
func (h *vfHost) device(nic, link string) string {
	h.t.Helper()
	to, err := os.Readlink(filepath.Join("/sys/class/net", nic, link))
	ok(h.t, err)
	return filepath.Base(to)
}

// daemon starts a patchbayd.
func (h *vfHost) daemon() {
	h.t.Helper()
	here, err := host.Here()
	ok(h.t, err)
	h.d, err = (&host.Host{Root: h.root, Netns: here}).Patchbayd("patchbayd", h.env...)
	ok(h.t, err)
}

// standby is the mode of a container that prefers a VF, and has a standby beside it.
const standby = "prefer with a standby"

// cni calls the plugin as a runtime does, which has to succeed.
func (h *vfHost) cni(command, container, mode string) {
	h.t.Helper()
	if out, err := h.tryCNI(command, container, mode); err != nil {
		h.t.Fatalf("%s of %s: %v\n%s", command, container, err, out)
	}
}

// tryCNI is cni, which may fail.
func (h *vfHost) tryCNI(command, container, mode string) (string, error) {
	cmd := exec.Command(filepath.Join(h.root, "bin/cni/patchbay"))
	cmd.Env = append(h.env, "CNI_COMMAND="+command, "CNI_CONTAINERID="+container, "CNI_NETNS=/run/netns/pb"+container,
		"CNI_IFNAME=eth0", "CNI_PATH="+filepath.Join(h.root, "bin/cni"))
	prev := ""
	if command == "CHECK" {
		prev = `,"prevResult":` + h.last[container]
	}
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"cniVersion":"1.0.0","name":"net1","type":"patchbay","switch":"wan",
		"offload":{"sriov":{"mode":%q,"failover":%t}},"ipam":{"type":"patchbay","ranges":[[{"subnet":"10.9.0.0/24","rangeStart":"10.9.0.10"}]]}%s}`,
		strings.Fields(mode)[0], mode == standby, prev))
	var out bytes.Buffer
	cmd.Stdout = &out
	begun := time.Now()
	err := cmd.Run()
	h.took[command+" "+mode] = append(h.took[command+" "+mode], time.Since(begun).Round(time.Millisecond))
	if command == "ADD" {
		h.last[container] = out.String()
	}
	return out.String(), err
}

// patience is what anything may take where the machine is emulated and has much else to do.
const patience = time.Minute

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
