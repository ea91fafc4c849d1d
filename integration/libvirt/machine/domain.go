package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/patchbay-net/patchbay/integration/libvirt/console"
)

// Patience is how long a virtual machine may take for anything: it is emulated, on a
// machine with other work.
const Patience = 4 * time.Minute

// Domain is a virtual machine and the console it is spoken to by.
type Domain struct {
	Name, UUID string
	*console.Console

	log string // what its kernel says
}

// Definition is what a domain is made of beyond what all have.
type Definition struct {
	Name       string
	Interfaces string // XML
	Metadata   string // XML
}

const domainXML = `<domain type='qemu'>
  <name>%[1]s</name><uuid>%[2]s</uuid>%[8]s
  <memory unit='MiB'>128</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><kernel>%[3]s</kernel><initrd>%[4]s</initrd><cmdline>console=ttyS0 quiet panic=-1</cmdline></os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    %[5]s
    <serial type='file'><source path='%[6]s'/><target port='0'/></serial>
    <serial type='unix'><source mode='connect' path='%[7]s'/><target port='1'/></serial>
    <memballoon model='none'/>
    %[9]s
  </devices>
</domain>`

// XML is the definition for libvirt.
func (m *Machine) xml(d *Domain, def Definition, socket string) string {
	slots := "<controller type='pci' model='pcie-root'/>" + strings.Repeat("<controller type='pci' model='pcie-root-port'/>", 12)
	metadata := def.Metadata
	if metadata != "" {
		metadata = "<metadata>" + metadata + "</metadata>"
	}
	return fmt.Sprintf(domainXML, d.Name, d.UUID, kernelPath, m.initrd, slots, d.log, socket, metadata, def.Interfaces)
}

// Define makes a domain that does not run yet.
func (m *Machine) Define(def Definition) (*Domain, error) {
	d := &Domain{Name: def.Name, UUID: fmt.Sprintf("00000000-0000-4000-8000-%012x", fingerprint(def.Name)), log: filepath.Join(m.Dir, "vm", def.Name+".log")}
	socket := filepath.Join(m.Dir, "vm", def.Name+".sock")
	var err error
	if d.Console, err = console.Listen(socket); err != nil {
		return nil, err
	}
	m.domains = append(m.domains, d)
	_, err = m.VirshXML(m.xml(d, def, socket), "define")
	return d, err
}

// Boot starts a defined domain and waits until it has come up.
func (m *Machine) Boot(d *Domain) error {
	n := d.Boots() + 1
	if _, err := m.Virsh("start", d.Name); err != nil {
		return err
	}
	if err := d.AwaitBoot(n, Patience); err != nil {
		return fmt.Errorf("%w\n%s", err, d.Log())
	}
	return nil
}

// Log is what the domain's kernel has said.
func (d *Domain) Log() string {
	text, _ := os.ReadFile(d.log) // for messages alone
	return string(text)
}

// Ask has the domain do something, see vminit.
func (d *Domain) Ask(args ...string) (string, error) { return d.Do(Patience, args...) }

func fingerprint(name string) (id uint32) {
	for _, c := range name {
		id = id*31 + uint32(c)
	}
	return id
}
