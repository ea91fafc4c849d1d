package pool_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/plugins/sriov/nic"
	"github.com/patchbay-net/patchbay/plugins/sriov/pool"
	"github.com/patchbay-net/patchbay/plugins/sriov/record"
	"github.com/patchbay-net/patchbay/sdk"
)

// paper is a machine of files with one NIC, whose two VFs have no driver: the plugin made
// them. The NIC's netdev is lo, which every machine has, and which can do nothing of all this.
type paper struct {
	*testing.T
	sys string
}

const pfAddr = "0000:01:00.0"

func vfAddr(index int) string { return fmt.Sprintf("0000:01:10.%d", 2*index) }

func newPaper(t *testing.T) paper {
	t.Helper()
	m := paper{t, t.TempDir()}
	for name, text := range map[string]string{"sriov_totalvfs": "2", "sriov_numvfs": "2", "class": "0x020000", "net/lo/type": "772"} {
		m.file(text, pfAddr, name)
	}
	m.link("../../../bus/pci/drivers/igb", pfAddr, "driver")
	for i := range 2 {
		m.file("0x020000", vfAddr(i), "class")
		m.link("../"+vfAddr(i), pfAddr, fmt.Sprint("virtfn", i))
	}
	return m
}

func (m paper) path(path ...string) string {
	return filepath.Join(append([]string{m.sys, "bus/pci/devices"}, path...)...)
}

func (m paper) file(text string, path ...string) {
	m.Helper()
	err := os.MkdirAll(filepath.Dir(m.path(path...)), 0o755)
	if err == nil {
		err = os.WriteFile(m.path(path...), []byte(text), 0o644)
	}
	if err != nil {
		m.Fatal(err)
	}
}

func (m paper) link(to string, path ...string) {
	m.Helper()
	if err := os.Symlink(to, m.path(path...)); err != nil {
		m.Fatal(err)
	}
}

// anew ends a VF, and makes another in its place.
func (m paper) anew(index int) {
	m.Helper()
	if err := os.Rename(m.path(vfAddr(index)), filepath.Join(m.sys, fmt.Sprint("ended", index))); err != nil {
		m.Fatal(err)
	}
	m.file("0x020000", vfAddr(index), "class")
}

// plugin goes on with what is written down of VFs.
func (m paper) plugin(vfs map[string]record.VF) *pool.Provider {
	m.Helper()
	host := nic.At(m.sys, m.TempDir())
	boot, err := host.Boot()
	if err != nil {
		m.Fatal(err)
	}
	state, err := json.Marshal(record.State{Version: 1, Boot: boot, Made: map[string]int{pfAddr: 2}, VFs: vfs})
	if err != nil {
		m.Fatal(err)
	}
	path := newRecord(m.T)
	if err := os.WriteFile(path, state, 0o600); err != nil {
		m.Fatal(err)
	}
	p := pool.New(host, "test")
	m.Cleanup(func() {
		if err := p.Close(); err != nil {
			m.Error(err)
		}
	})
	if err := p.Configure(m.Context(), settingsWith(path)); err != nil {
		m.Fatal(err)
	}
	return p
}

func request(port string) sdk.Request {
	return sdk.Request{Ref: sdk.Ref{Port: port, Feature: vswitch.SRIOV}, NIC: pfAddr, Generation: 1, MAC: vswitch.MAC{2, 0, 0, 0, 0, 1}, Owner: vswitch.OwnerContainer}
}

// sees is what the plugin tells of the NIC's VFs.
func sees(t *testing.T, p *pool.Provider) (c vswitch.Capability) {
	t.Helper()
	err := p.WatchInventory(t.Context(), func(i sdk.Inventory) error {
		if len(i.NICs) == 1 {
			c = i.NICs[0].Capabilities.SRIOV
		}
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	return c
}

// VFs that somebody else made in the place of the plugin's, as many as there were, are his.
func TestVFsMadeAnewByOthers(t *testing.T) {
	m := newPaper(t)
	p := m.plugin(nil)
	if c := sees(t, p); c.Foreign != 0 || c.Capacity != 2 {
		t.Errorf("of its own: %+v", c)
	}
	m.anew(0)
	m.anew(1)
	if c := sees(t, p); c.Foreign != 2 || c.Capacity != 2 {
		t.Errorf("of others': %+v", c)
	}
	if _, err := p.Ensure(t.Context(), request("a")); sdk.ReasonOf(err) != vswitch.NoFreeVF {
		t.Errorf("a port is given %v", err)
	}
}

// A container's VF that libvirt's pool gave to a VM is the VM's: it is not touched, and the
// container gets another one.
func TestVFThatAVMSeized(t *testing.T) {
	for what, seize := range map[string]func(paper){
		"its driver is VFIO's":        func(m paper) { m.link("../../drivers/vfio-pci", vfAddr(0), "driver") },
		"no other driver may take it": func(m paper) { m.file("vfio-pci", vfAddr(0), "driver_override") },
	} {
		t.Run(what, func(t *testing.T) {
			m := newPaper(t)
			r := request("a")
			g := sdk.Grant{Ref: r.Ref, NIC: pfAddr, Generation: 1, Amount: 1, VF: &sdk.VF{PCIAddr: vfAddr(0)}}
			p := m.plugin(map[string]record.VF{vfAddr(0): {PF: pfAddr, Phase: record.Held, Request: r, Found: record.Found{Driver: "igbvf"}, Grant: g}})
			seize(m)
			for range 2 {
				// Here no VF can be set, so that it can be seen only which one is tried.
				if _, err := p.Ensure(t.Context(), r); err == nil || !strings.Contains(err.Error(), "VF 1 of") || strings.Contains(err.Error(), "VF 0 of") {
					t.Errorf("what is tried is not VF 1: %v", err)
				}
				r.Generation++
			}
			if err := p.Release(t.Context(), r.Ref, r.Generation); err != nil && strings.Contains(err.Error(), "VF 0 of") {
				t.Error(err)
			}
			if c := sees(t, p); c.Foreign == 0 {
				t.Errorf("it is not a VM's: %+v", c)
			}
		})
	}
}
