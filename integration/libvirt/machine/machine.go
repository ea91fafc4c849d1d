// Package machine makes hosts with a libvirtd of their own: a stock one, with a root, a
// /run and a network that nobody else has, on which virtual machines run without KVM.
package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/integration/guest/boot"
	"github.com/patchbay-net/patchbay/integration/host"
)

// Version is a libvirt that can be had: a piece of integration/guest/boot.
type Version string

// The libvirt of Debian 12, and of its backports.
const (
	Libvirt9  Version = "libvirt9"
	Libvirt11 Version = "libvirt11"
)

// Machine is a host with libvirtd.
type Machine struct {
	*host.Host
	Version Version
	Daemon  *exec.Cmd // libvirtd; nil while it does not run

	log     string // of libvirtd
	initrd  string
	nested  bool
	domains []*Domain
}

// Config is what a machine is made of.
type Config struct {
	Name    string
	Version Version
	Share   string // a directory that all machines of a test have
	// Nested says that this is a guest of boot.Job.Nested: virtual machines have what they
	// need for VFs, and little else.
	Nested bool
}

// Fetch downloads what machines are made of, unless it is there. New does so too, but
// is mostly called where there is no network.
func Fetch(ctx context.Context, progress io.Writer) error {
	for _, name := range []string{string(Libvirt9), string(Libvirt11), string(boot.QEMU)} {
		if _, err := boot.Piece(ctx, name, progress); err != nil {
			return err
		}
	}
	return nil
}

// New makes a machine below Share, without a libvirtd that runs.
func New(ctx context.Context, c Config) (*Machine, error) {
	root, err := boot.Piece(ctx, string(c.Version), io.Discard)
	if err != nil {
		return nil, err
	}
	kernel, err := boot.Piece(ctx, string(boot.QEMU), io.Discard)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(c.Share, c.Name)
	if err := os.MkdirAll(filepath.Join(dir, "vm"), 0o755); err != nil {
		return nil, err
	}
	template := []string{filepath.Join(root, "root"), filepath.Join(kernel, "domain")}
	if c.Nested {
		template = append(template, filepath.Join(kernel, "root")) // libvirt looks there for the driver that gives a VF away
	}
	h, err := host.NewWith(dir, host.Estate{Name: c.Name, Template: strings.Join(template, ":"), Share: c.Share})
	if err != nil {
		return nil, err
	}
	m := &Machine{Host: h, Version: c.Version, log: filepath.Join(dir, "libvirtd.log"), initrd: filepath.Join(c.Share, "initrd"), nested: c.Nested}
	if err := errors.Join(m.image(kernel), m.configure(c.Name)); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return m, nil
}

// kernelPath is the kernel of virtual machines in a machine's root.
const kernelPath = "/boot/vmlinux"

// image puts the first file system of virtual machines where libvirt finds it.
func (m *Machine) image(kernel string) error {
	if _, err := os.Stat(m.initrd); err == nil {
		return nil // another machine has
	}
	program := filepath.Join(m.Root, "bin/vminit")
	modules := "vm"
	if m.nested {
		modules = "nested"
	}
	rd, err := boot.Initrd(program, filepath.Join(kernel, modules))
	if err != nil {
		return fmt.Errorf("%w; run `make build-libvirt`", err)
	}
	return os.WriteFile(m.initrd, rd, 0o644)
}

// configure tells libvirtd to do without what a system would have for it.
func (m *Machine) configure(name string) error {
	const libvirtd = `unix_sock_group = "root"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
host_uuid = "11111111-2222-4333-8444-%012x"
log_outputs = "1:file:%s"
`
	const qemu = `user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
`
	for path, text := range map[string]string{
		"/etc/libvirt/libvirtd.conf": fmt.Sprintf(libvirtd, fingerprint(name), m.log), "/etc/libvirt/qemu.conf": qemu,
	} {
		if err := m.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// HookDrivers are the drivers of libvirt with a hook of Patchbay's.
func HookDrivers() []string { return []string{"network", "qemu", "lxc"} }

// HookPath is where Patchbay's hook for a driver of libvirt is.
func HookPath(driver string) string {
	return "/etc/libvirt/hooks/" + driver + ".d/50-patchbay"
}

// InstallHooks puts Patchbay's hooks where libvirt looks for them.
func (m *Machine) InstallHooks() error {
	program, err := os.ReadFile(filepath.Join(m.Root, "bin/patchbay-libvirt-hook"))
	for _, driver := range HookDrivers() {
		err = errors.Join(err, m.WriteFile(HookPath(driver), string(program), 0o755))
	}
	return err
}

// WriteFile writes a file of the machine, and the directories it is in.
func (m *Machine) WriteFile(path, text string, mode os.FileMode) error {
	return m.Do(func() error {
		return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode))
	})
}

// Start starts libvirtd; it returns when clients may connect.
func (m *Machine) Start() error {
	c := exec.Command("/usr/sbin/libvirtd")
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C"}
	if err := host.StartNotifying(m.Netns, c); err != nil {
		return err
	}
	m.Daemon = c
	// As its unit has it: before each program that it runs, libvirt goes through all the files
	// that it may have open.
	if err := unix.Prlimit(c.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1024, Max: 1024}, nil); err != nil {
		return err
	}
	_, err := m.Virsh("list") // answered when the drivers are there
	return err
}

// Stop ends libvirtd as a service manager does; virtual machines go on.
func (m *Machine) Stop() error { return m.end(syscall.SIGTERM) }

// Kill ends it as kill -9 does.
func (m *Machine) Kill() error { return m.end(syscall.SIGKILL) }

func (m *Machine) end(by syscall.Signal) error {
	if m.Daemon == nil {
		return nil
	}
	c := m.Daemon
	m.Daemon = nil
	if err := c.Process.Signal(by); err != nil {
		return err
	}
	var exit *exec.ExitError
	if err := c.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil
}

// Virsh runs a command of virsh on the machine. Its error has what virsh said. Where a hook
// has no more time it says so, and to try again: that happens in a guest on a busy machine.
func (m *Machine) Virsh(args ...string) (out string, err error) {
	for range 3 {
		out, err = m.RunEnv([]string{"LC_ALL=C"}, append([]string{"/usr/bin/virsh", "-q", "-c", "qemu:///system"}, args...)...)
		if err == nil || !strings.Contains(err.Error(), "has not got it done within") {
			break
		}
	}
	return out, err
}

// VirshXML is Virsh with a file as its last argument.
func (m *Machine) VirshXML(xml string, args ...string) (string, error) {
	f, err := os.CreateTemp(m.Dir, "xml")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(xml)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(f.Name()) }() // best effort
	return m.Virsh(append(args, f.Name())...)
}

// URI is how libvirtd and its clients on other machines of the test reach this one.
func (m *Machine) URI() string {
	return "qemu+unix:///system?socket=" + filepath.Join(m.Dir, "root/run/libvirt/libvirt-sock")
}

// Log is what libvirtd has logged, without what it misses of a system on every start, and
// what the kernels of virtual machines have complained of.
func (m *Machine) Log() (said string) {
	text, _ := os.ReadFile(m.log) // for messages alone
	missed := regexp.MustCompile(`dnsmasq|DBus|udevGetDMIData|dmidecode|virSecurityManagerNew| info : |^$`)
	for line := range strings.Lines(string(text)) {
		if !missed.MatchString(strings.TrimSpace(line)) {
			said += line
		}
	}
	for _, d := range m.domains {
		said += d.Log()
	}
	return said
}

// Close ends virtual machines and libvirtd, and lets the machine go.
func (m *Machine) Close() error {
	var errs []error
	if m.Daemon == nil && len(m.domains) > 0 {
		errs = append(errs, m.Start()) // it knows what runs
	}
	for _, d := range m.domains {
		if _, err := m.Virsh("destroy", d.Name); err != nil && !strings.Contains(err.Error(), "not running") && !strings.Contains(err.Error(), "failed to get domain") {
			errs = append(errs, err)
		}
		errs = append(errs, d.Close())
	}
	return errors.Join(append(errs, m.Stop(), m.Host.Close())...)
}
