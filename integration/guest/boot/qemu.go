package boot

import (
	"fmt"
	"path/filepath"
	"strings"
)

// qemu is the command line of a guest under qemu, which runs with its own libraries
// from where it was unpacked.
func (g *guest) qemu() []string {
	at := func(path string) string { return filepath.Join(g.kernel, "qemu", path) }
	iommu, cpus, memory, perCable := "intremap=off", "1", "1G", 2
	if g.Nested {
		// What a guest of the guest has mapped changes, and its interrupts are a VF's.
		iommu, cpus, memory, perCable = "intremap=on,caching-mode=on", "2", "2G", g.NICs
	}
	argv := []string{
		at("lib64/ld-linux-x86-64.so.2"), "--library-path", strings.Join([]string{at("lib/x86_64-linux-gnu"), at("usr/lib/x86_64-linux-gnu")}, ":"),
		at("usr/bin/qemu-system-x86_64"), "-L", at("usr/share/qemu"), "-L", at("usr/share/seabios"),
		"-machine", "q35", "-device", "intel-iommu," + iommu, "-accel", "tcg", "-cpu", "max,la57=off", "-smp", cpus, "-m", memory, "-nodefaults", "-nographic", "-no-reboot",
		"-chardev", "stdio,id=terminal,signal=off", "-serial", "chardev:terminal", "-kernel", filepath.Join(g.kernel, "linux"), "-initrd", g.file("initrd"),
		// On a busy machine an emulated timer may look broken; the kernel is not to try it.
		"-append", "console=ttyS0 quiet panic=-1 no_timer_check intel_iommu=on iommu=pt patchbay.on=qemu patchbay.source=" + g.Source,
		// The guest has the monitor at hand as a port of virtio, see guest.SetLink.
		"-chardev", "socket,id=monitor,path=" + g.file("monitor") + ",server=on,wait=off", "-mon", "chardev=monitor,mode=control",
		"-chardev", "socket,id=toguest,path=" + g.file("monitor"), "-device", "virtio-serial", "-device", "virtserialport,chardev=toguest,name=monitor",
	}
	for _, s := range []struct{ name, path, more string }{
		{"root", g.root, ",readonly=on"}, {"kernel", g.kernel, ",readonly=on"}, {"pieces", filepath.Dir(g.root), ",readonly=on"}, {"source", g.Source, ",readonly=on"}, {"out", g.dir, ""},
	} {
		if s.path != "" {
			argv = append(argv, "-fsdev", "local,id="+s.name+",path="+s.path+",security_model=none,multidevs=remap"+s.more,
				"-device", "virtio-9p-pci,fsdev="+s.name+",mount_tag="+s.name)
		}
	}
	for i := range g.NICs {
		argv = append(argv, "-netdev", fmt.Sprintf("hubport,id=n%d,hubid=%d", i, i/perCable),
			"-device", fmt.Sprintf("pcie-root-port,id=slot%d,slot=%d,chassis=%d", i, i+1, i+1),
			"-device", fmt.Sprintf("igb,netdev=n%d,bus=slot%d,mac=52:54:00:00:01:%02x,romfile=", i, i, i))
	}
	return argv
}
