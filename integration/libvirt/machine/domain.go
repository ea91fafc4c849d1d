package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/patchbay-net/patchbay/integration/libvirt/console"
)

// patience is how long a virtual machine may take for anything: it is emulated, on a
// machine with other work that may be emulated itself.
func (m *Machine) patience() time.Duration {
	if m.nested {
		return 12 * time.Minute
	}
	return 4 * time.Minute
}

// Domain is a virtual machine and the console it is spoken to by.
type Domain struct {
	Name, UUID string
	*console.Console

	log      string // what its kernel says
	patience time.Duration
}

// Definition is what a domain is made of beyond what all have.
type Definition struct {
	Name       string
	Interfaces string // XML
	Metadata   string // XML
	// Args are added to QEMU's command line, for what libvirt has no XML for.
	Args []string
}

// qemuArgs is XML for libvirt's QEMU driver alone.
func qemuArgs(args []string) string {
	if len(args) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>")
	for _, a := range args {
		fmt.Fprintf(&b, "<qemu:arg value='%s'/>", a)
	}
	return b.String() + "</qemu:commandline>"
}

// bootArgs go without a look at whether the timer works, which on a busy machine seems not to.
const bootArgs = "console=ttyS0 quiet panic=-1 no_timer_check"

// kernelArgs are those of a virtual machine that moves. While its memory is sent, QEMU's emulator may miss what
// the guest writes to pages that were in its TLB before, which a guest of one process hardly ever
// flushes: of 136 moves on a busy machine 3 ended in an oops of the guest's kernel. Isolated page
// tables flush it at each system call: none of 144.
const kernelArgs = bootArgs + " pti=on"

// nestedArgs leave out what takes a virtual machine in a guest its time.
const nestedArgs = bootArgs + " mitigations=off nokaslr tsc=reliable audit=0 cryptomgr.notests random.trust_cpu=on"

// nestedCPU is an old one: of what is newer the kernel uses what takes long to emulate twice.
const nestedCPU = "<cpu mode='custom' match='exact' check='none'><model>Nehalem</model></cpu>"

const domainXML = `<domain type='qemu'>
  <name>%[1]s</name><uuid>%[2]s</uuid>%[8]s
  <memory unit='MiB'>128</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><kernel>%[3]s</kernel><initrd>%[4]s</initrd><cmdline>%[10]s</cmdline></os>
  <features><acpi/></features>%[11]s
  <on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>preserve</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    %[5]s
    <serial type='file'><source path='%[6]s'/><target port='0'/></serial>
    <serial type='unix'><source mode='connect' path='%[7]s'/><target port='1'/></serial>
    <memballoon model='none'/><panic model='isa'/>
    %[9]s
  </devices>
</domain>`

// XML is the definition for libvirt.
func (m *Machine) xml(d *Domain, def Definition, socket string) string {
	slots, args, cpu := 12, kernelArgs, ""
	if m.nested {
		slots, args, cpu = 3, nestedArgs, nestedCPU
	}
	controllers := "<controller type='pci' model='pcie-root'/>" + strings.Repeat("<controller type='pci' model='pcie-root-port'/>", slots)
	metadata := def.Metadata
	if metadata != "" {
		metadata = "<metadata>" + metadata + "</metadata>"
	}
	return fmt.Sprintf(domainXML, d.Name, d.UUID, kernelPath, m.initrd, controllers, d.log, socket, metadata, def.Interfaces, args, cpu)
}

// domain is one that libvirt has not heard of; its console listens at the socket.
func (m *Machine) domain(name string) (d *Domain, socket string, err error) {
	d = &Domain{Name: name, UUID: fmt.Sprintf("00000000-0000-4000-8000-%012x", fingerprint(name)), log: filepath.Join(m.Dir, "vm", name+".log"), patience: m.patience()}
	socket = filepath.Join(m.Dir, "vm", name+".sock")
	if d.Console, err = console.Listen(socket); err == nil {
		m.domains = append(m.domains, d)
	}
	return d, socket, err
}

// Define makes a domain that does not run yet.
func (m *Machine) Define(def Definition) (*Domain, error) {
	d, socket, err := m.domain(def.Name)
	if err != nil {
		return nil, err
	}
	xml := strings.Replace(m.xml(d, def, socket), "</domain>", qemuArgs(def.Args)+"</domain>", 1)
	_, err = m.VirshXML(xml, "define")
	return d, err
}

// Install has virt-install make a domain with one interface and start it, and waits until it
// has come up. The interface is written as virt-install wants it.
func (m *Machine) Install(name, network string) (*Domain, error) {
	d, socket, err := m.domain(name)
	if err != nil {
		return nil, err
	}
	_, err = m.RunEnv([]string{"LC_ALL=C", "HOME=/root"}, "/usr/bin/virt-install", "--connect", "qemu:///system", "--virt-type", "qemu", "--machine", "q35",
		"--name", name, "--uuid", d.UUID, "--memory", "128", "--vcpus", "1", "--osinfo", "detect=off,require=off", "--import", "--disk", "none",
		"--boot", fmt.Sprintf("kernel=%s,initrd=%s,kernel_args=%s", kernelPath, m.initrd, kernelArgs), "--network", network+",model=virtio",
		"--graphics", "none", "--controller", "usb,model=none", "--memballoon", "none", "--rng", "none",
		"--serial", "file,path="+d.log, "--serial", "unix,source.mode=connect,path="+socket, "--noautoconsole")
	if err != nil {
		return d, err
	}
	return d, d.AwaitBoot(1, d.patience)
}

// Boot starts a defined domain and waits until it has come up.
func (m *Machine) Boot(d *Domain) error {
	n := d.Boots() + 1
	if _, err := m.Virsh("start", d.Name); err != nil {
		return err
	}
	if err := d.AwaitBoot(n, d.patience); err != nil {
		return fmt.Errorf("%w\n%s", err, d.Log())
	}
	return nil
}

// PID is that of a domain's hypervisor on the machine.
func (m *Machine) PID(d *Domain) (int, error) {
	text, err := m.Read("/run/libvirt/qemu/" + d.Name + ".pid")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// Log is what the domain's kernel has said.
func (d *Domain) Log() string {
	text, _ := os.ReadFile(d.log) // for messages alone
	return string(text)
}

// Ask has the domain do something, see vminit.
func (d *Domain) Ask(args ...string) (string, error) { return d.Do(d.patience, args...) }

func fingerprint(name string) (id uint32) {
	for _, c := range name {
		id = id*31 + uint32(c)
	}
	return id
}
