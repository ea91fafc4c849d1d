package nic

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// tree is a sysfs of text files and, where the text begins with "->", links.
type tree map[string]string

const pfAddr, vfAddr = "0000:01:00.0", "0000:01:10.0"

// card is a NIC with one VF of two.
func card() tree {
	return tree{
		pfAddr + "/class": "0x020000\n", pfAddr + "/vendor": "0x8086\n", pfAddr + "/device": "0x10c9\n",
		pfAddr + "/sriov_totalvfs": "2\n", pfAddr + "/sriov_numvfs": "1\n", pfAddr + "/driver": "->../../drivers/igb",
		pfAddr + "/virtfn0": "->../" + vfAddr, vfAddr + "/driver": "->../../drivers/igbvf", vfAddr + "/driver_override": "(null)\n",
	}
}

func (f tree) with(more tree) tree {
	for path, text := range more {
		if f[path] = text; text == "" {
			delete(f, path)
		}
	}
	return f
}

// host is a machine with these files.
func (f tree) host(t *testing.T) *Host {
	t.Helper()
	sys := t.TempDir()
	for path, text := range f {
		path = filepath.Join(sys, "bus/pci/devices", path)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if to, link := strings.CutPrefix(text, "->"); err == nil && link {
			err = os.Symlink(to, path)
		} else if err == nil {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return At(sys, t.TempDir())
}

func TestFunctions(t *testing.T) {
	h := card().with(tree{
		"0000:02:00.0/sriov_totalvfs": "4\n", "0000:02:00.0/sriov_numvfs": "0\n", "0000:02:00.0/class": "0x010802\n", // storage
		"0000:03:00.0/class": "0x020000\n", // cannot have VFs
	}).host(t)
	all, err := h.PFs()
	if err != nil {
		t.Fatal(err)
	}
	want := []PF{{Addr: pfAddr, Driver: "igb", Model: "8086:10c9", Total: 2, Num: 1}}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Error(diff)
	}
	vfs := h.VFs(all[0])
	if len(vfs) != 1 || vfs[0].Inode == 0 {
		t.Fatalf("%+v", vfs)
	}
	if diff := cmp.Diff(VF{PF: pfAddr, Addr: vfAddr, Driver: "igbvf", Inode: vfs[0].Inode}, vfs[0]); diff != "" {
		t.Error(diff)
	}
	for _, addr := range []string{"0000:03:00.0", "0000:04:00.0", "../../../etc", ""} {
		if _, err := h.PF(addr); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", addr, err)
		}
	}
	if _, err := h.VF(pfAddr, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// What sysfs says is not believed where it cannot be.
func TestNumbersThatCannotBe(t *testing.T) {
	for name, files := range map[string]tree{
		"below 0":       {pfAddr + "/sriov_numvfs": "-1"},
		"no number":     {pfAddr + "/sriov_totalvfs": "many"},
		"too many":      {pfAddr + "/sriov_totalvfs": "70000"},
		"beyond 32 bit": {pfAddr + "/sriov_totalvfs": "99999999999999999999"},
		"more than all": {pfAddr + "/sriov_numvfs": "3"},
		"empty":         {pfAddr + "/sriov_numvfs": "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if pf, err := card().with(files).host(t).PF(pfAddr); err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%+v, %v", pf, err)
			}
		})
	}
}

func TestVMsNeedIsolation(t *testing.T) {
	group := func(addr string, members ...string) tree {
		f := tree{addr + "/iommu_group": "->../../../../kernel/iommu_groups/7"}
		for _, m := range members {
			f["../../../kernel/iommu_groups/7/devices/"+m] = "a link"
		}
		return f
	}
	none := tree{pfAddr + "/sriov_numvfs": "0\n", pfAddr + "/virtfn0": ""}
	for name, c := range map[string]struct {
		files tree
		want  vswitch.Reason
	}{
		"no IOMMU":                      {tree{}, vswitch.NoIOMMU},
		"no IOMMU, no VF":               {none, vswitch.NoIOMMU},
		"a VF by itself":                {group(vfAddr, vfAddr), ""},
		"a VF with its NIC":             {group(vfAddr, vfAddr, pfAddr), vswitch.NoACS},
		"a VF with another":             {group(vfAddr, vfAddr, "0000:01:10.2"), vswitch.NoACS},
		"a NIC by itself, without VFs":  {group(pfAddr, pfAddr).with(none), ""},
		"a NIC with a port of the same": {group(pfAddr, pfAddr, "0000:01:00.1").with(none), ""},
		"a NIC below a bridge":          {group(pfAddr, pfAddr, "0000:00:01.0").with(none).with(tree{"0000:00:01.0/class": "0x060400"}), ""},
		"a NIC with a disk":             {group(pfAddr, pfAddr, "0000:00:02.0").with(none).with(tree{"0000:00:02.0/class": "0x010802"}), vswitch.NoACS},
	} {
		t.Run(name, func(t *testing.T) {
			h := card().with(c.files).host(t)
			pf, err := h.PF(pfAddr)
			if err != nil {
				t.Fatal(err)
			}
			if got := h.VMs(pf); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// A driver that makes no VFs, and a firmware that leaves them no room, are told apart.
func TestMemoryOfVFs(t *testing.T) {
	const nothing, there = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n", "0x00000000fe000000 0x00000000fe01ffff 0x0000000000040200\n"
	const unplaced = "0x0000000000000000 0x0000000000003fff 0x0000000000140204\n"
	own := there + strings.Repeat(nothing, firstVFResource-1)
	for name, c := range map[string]struct {
		text string
		want bool
	}{
		"no room":       {own + unplaced + nothing + nothing + unplaced, true},
		"room":          {own + there + nothing, false},
		"nothing asked": {own + nothing + nothing, false},
		"garbage":       {"a\nb c\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := card().with(tree{pfAddr + "/resource": c.text}).host(t).noMemory(pfAddr); got != c.want {
				t.Errorf("%t, want %t", got, c.want)
			}
		})
	}
	h := card().host(t)
	if err := h.MakeVFs(t.Context(), PF{Addr: "0000:09:00.0", Driver: "old"}, 1); sdk.ReasonOf(err) != vswitch.NoDriverSupport {
		t.Errorf("%v", err)
	}
}

// A VF whose NIC was reset has lost the bus; one that a VM has is the VM's business.
func TestLostVFs(t *testing.T) {
	for name, c := range map[string]struct {
		files tree
		want  bool
	}{
		"works":        {tree{vfAddr + "/config": "\x86\x80\xca\x10\x06\x04"}, false},
		"reset":        {tree{vfAddr + "/config": "\x86\x80\xca\x10\x00\x00"}, true},
		"unreadable":   {tree{}, false},
		"cut short":    {tree{vfAddr + "/config": "\x86\x80"}, false},
		"a VM's":       {tree{vfAddr + "/config": "\x86\x80\xca\x10\x00\x00", vfAddr + "/driver": "->../../drivers/vfio-pci"}, false},
		"without any":  {tree{vfAddr + "/config": "\x86\x80\xca\x10\x00\x00", vfAddr + "/driver": ""}, false},
		"mlx5's vfio":  {tree{vfAddr + "/config": "\x86\x80\xca\x10\x00\x00", vfAddr + "/driver": "->../../drivers/vfio_mlx5"}, false},
		"with another": {tree{vfAddr + "/config": "\x86\x80\xca\x10\x02\x00"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			vf, err := card().with(c.files).host(t).VF(pfAddr, 0)
			if err != nil || vf.Lost != c.want {
				t.Errorf("%+v, %v", vf, err)
			}
		})
	}
}

// Where udev runs a netdev has its name when udev says that it is done.
func TestSettled(t *testing.T) {
	h := card().host(t)
	d := Netdev{Name: "eth0", Index: 7}
	if !h.settled(d) {
		t.Error("without udev nothing is to be waited for")
	}
	for _, file := range []string{"udev/control", "udev/data/n8"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(h.run, file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(h.run, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if h.settled(d) {
		t.Error("udev has said nothing")
	}
	if d.Index = 8; !h.settled(d) {
		t.Error("udev is done")
	}
}

func TestUevents(t *testing.T) {
	for event, want := range map[string]bool{
		"bind@/devices/pci0000:00/0000:01:10.0\x00ACTION=bind\x00DEVPATH=/devices/pci0000:00/0000:01:10.0\x00SUBSYSTEM=pci\x00":        true,
		"add@/devices/pci0000:00/0000:01:10.0/net/eth0\x00DEVPATH=/devices/pci0000:00/0000:01:10.0/net/eth0\x00SUBSYSTEM=net\x00":      true,
		"add@/devices/virtual/net/veth0\x00ACTION=add\x00DEVPATH=/devices/virtual/net/veth0\x00SUBSYSTEM=net\x00":                      false,
		"add@/devices/pci0000:00/0000:02:00.0/nvme/nvme0\x00DEVPATH=/devices/pci0000:00/0000:02:00.0/nvme/nvme0\x00SUBSYSTEM=nvme\x00": false,
		"": false,
	} {
		if got := ofFunction([]byte(event)); got != want {
			t.Errorf("%q: %t", event, got)
		}
	}
}
