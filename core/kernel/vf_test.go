package kernel

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
)

// TestVF: an igb holds an address for a VF, and forgets it.
func TestVF(t *testing.T) {
	guest.Needs(t, guest.NICs)
	run := commands(t)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile("/sys/class/net/n0/device/"+name, []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	write("sriov_drivers_autoprobe", "0") // nobody is to have them
	write("sriov_numvfs", "2")
	t.Cleanup(func() { write("sriov_numvfs", "0"); write("sriov_drivers_autoprobe", "1") })
	addr, err := os.Readlink("/sys/class/net/n0/device/virtfn1")
	if err != nil {
		t.Fatal(err)
	}
	addr = filepath.Base(addr)
	k := NewLinux()
	for _, mac := range []vswitch.MAC{macOf(7), {}, macOf(8)} {
		for range 2 {
			if err := k.Apply(t.Context(), []plan.Step{plan.SetVFMAC{PF: "n0", VF: 1, MAC: mac}}); err != nil {
				t.Fatal(err)
			}
		}
		vf, err := k.VF(t.Context(), addr)
		if want := (VF{PF: "n0", Index: 1, MAC: mac}); err != nil || vf != want {
			t.Errorf("%+v, %v; want %+v", vf, err, want)
		}
		if shown := run("ip", "link", "show", "n0"); !strings.Contains(shown, "vf 1     link/ether "+mac.String()) || strings.Contains(shown, "vf 0     link/ether "+mac.String()) && !mac.IsZero() {
			t.Errorf("ip shows\n%s", shown)
		}
	}
	if err := k.Apply(t.Context(), []plan.Step{plan.SetVFMAC{PF: "n0", VF: 9}}); err == nil {
		t.Error("a VF that there is not is set")
	}
	pf, err := os.Readlink("/sys/class/net/n0/device")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.VF(t.Context(), filepath.Base(pf)); !errors.Is(err, vswitch.CapabilityMissing) {
		t.Errorf("n0 itself: %v", err)
	}
}

// TestFindVF: what sysfs shows may be of another network namespace, or no VF's.
func TestFindVF(t *testing.T) {
	lay := func(files map[string]string, links map[string]string) string {
		root := t.TempDir()
		for name, text := range files {
			path := filepath.Join(root, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		for name, to := range links {
			if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
				t.Fatal(err)
			}
		}
		return root
	}
	const devices, pf, vf = "bus/pci/devices/", "0000:01:00.0", "0000:01:10.2"
	files := func(index string) map[string]string {
		return map[string]string{devices + pf + "/net/lo/ifindex": index, devices + vf + "/class": "0x020000", devices + "0000:02:00.0/class": "0x020000"}
	}
	links := map[string]string{devices + vf + "/physfn": "../" + pf, devices + pf + "/virtfn0": "../0000:01:10.0", devices + pf + "/virtfn1": "../" + vf}
	c, err := dialRTNL()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	found, err := findVF(c, lay(files("1\n"), links), vf)
	if err != nil || found != (VF{PF: "lo", Index: 1}) { // lo is the netdev that has the same number everywhere
		t.Errorf("%+v, %v", found, err)
	}
	for name, tc := range map[string]struct {
		index, addr string
		kind        vswitch.Kind
		says        string
	}{
		"of another namespace": {"99\n", vf, vswitch.CapabilityMissing, "its NIC has no netdev in the host's network namespace"},
		"no VF":                {"1\n", "0000:02:00.0", vswitch.CapabilityMissing, "it is no VF"},
		"none":                 {"1\n", "0000:03:00.0", vswitch.NotFound, "0000:03:00.0"},
		"a path":               {"1\n", vf + "/physfn", vswitch.NotFound, "physfn"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := findVF(c, lay(files(tc.index), links), tc.addr)
			if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.says) {
				t.Error(err)
			}
		})
	}
}
