// Vminit is process 1 of the virtual machines that the tests run: it does what the
// test asks for on the second serial line, a line of JSON each (package console),
// and says nothing else there.
package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/integration/guest/boot"
	"github.com/patchbay-net/patchbay/integration/host"
	"github.com/patchbay-net/patchbay/integration/libvirt/console"
)

func main() {
	err := serve()
	fmt.Fprintln(os.Stderr, "vminit:", err) // on the kernel's console
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func serve() error {
	if err := boot.Early(); err != nil {
		return err
	}
	line, err := rawTerminal("/dev/ttyS1")
	if err != nil {
		return err
	}
	here, err := host.Here()
	if err != nil {
		return err
	}
	vm := &vm{Netns: here, taps: map[string]*hearing{}}
	return console.Serve(line, map[string]console.Verb{
		"links": vm.links, "counts": vm.counts, "address": vm.address, "vlan": vm.vlan, "await": vm.await, "ping": vm.ping, "send": vm.send, "tap": vm.tap, "heard": vm.heard,
		"answer": vm.answer, "speak": vm.speak, "ask": vm.ask, "poweroff": poweroff, "crash": crash, "panic": tellPanic,
	})
}

// rawTerminal opens a serial line that carries bytes as they are.
func rawTerminal(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	t := &unix.Termios{Cflag: unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200, Ispeed: unix.B115200, Ospeed: unix.B115200}
	t.Cc[unix.VMIN] = 1
	return f, unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t)
}

// vm is this machine.
type vm struct {
	*host.Netns

	mu   sync.Mutex
	taps map[string]*hearing
}

// hearing is what was heard on a NIC.
type hearing struct {
	*host.Tap
	payloads map[string]bool
	more     *sync.Cond
}

// list lists the NICs, and lo.
func (vm *vm) list() ([]netlink.Link, error) {
	h, err := vm.Links()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	return h.LinkList()
}

// nic finds a NIC by its address, its name or its driver.
func (vm *vm) nic(key string) (netlink.Link, error) {
	all, err := vm.list()
	if err != nil {
		return nil, err
	}
	for _, l := range all {
		if l.Attrs().Name == key || l.Attrs().HardwareAddr.String() == key || driver(l) == key {
			return l, nil
		}
	}
	return nil, fmt.Errorf("there is no NIC %s", key)
}

// driver is that of a NIC's device; "" where it has none.
func driver(l netlink.Link) string {
	path, err := os.Readlink("/sys/class/net/" + l.Attrs().Name + "/device/driver")
	if err != nil {
		return ""
	}
	return filepath.Base(path)
}

// links says which NICs there are: names, addresses, states and drivers.
func (vm *vm) links(...string) (string, error) {
	all, err := vm.list()
	var s string
	for _, l := range all {
		if l.Attrs().Name != "lo" {
			s += l.Attrs().Name + " " + l.Attrs().HardwareAddr.String() + " " + l.Attrs().OperState.String() + " " + driver(l) + "\n"
		}
	}
	return s, err
}

// counts NIC says how many packets a NIC has received and sent.
func (vm *vm) counts(args ...string) (string, error) {
	l, err := vm.nic(args[0])
	if err != nil {
		return "", err
	}
	s := l.Attrs().Statistics
	return fmt.Sprint(s.RxPackets, " ", s.TxPackets), nil
}

// await NIC DURATION [STATE] waits until a NIC is there, and its link in this state.
func (vm *vm) await(args ...string) (string, error) {
	updates, done := make(chan netlink.LinkUpdate, 64), make(chan struct{})
	if err := netlink.LinkSubscribe(updates, done); err != nil {
		return "", err
	}
	defer close(done)
	patience, err := time.ParseDuration(args[1])
	if err != nil {
		return "", err
	}
	late := time.After(patience)
	for {
		l, err := vm.nic(args[0])
		if err == nil && (len(args) < 3 || l.Attrs().OperState.String() == args[2]) {
			return l.Attrs().Name, nil
		}
		select {
		case <-updates:
		case <-late:
			return "", errors.Join(errors.New("too late"), err)
		}
	}
}

// address NIC PREFIX gives a NIC an address and takes it up.
func (vm *vm) address(args ...string) (string, error) {
	l, err := vm.nic(args[0])
	if err != nil {
		return "", err
	}
	if err := netlink.LinkSetUp(l); err != nil || len(args) < 2 {
		return "", err
	}
	a, err := netlink.ParseAddr(args[1])
	if err != nil {
		return "", err
	}
	return "", netlink.AddrReplace(l, a)
}

// vlan NIC ID makes a netdev for the frames of a NIC with that tag and says its name.
func (vm *vm) vlan(args ...string) (string, error) {
	l, err := vm.nic(args[0])
	if err != nil {
		return "", err
	}
	id, err := strconv.Atoi(args[1])
	if err != nil {
		return "", err
	}
	h, err := vm.Links()
	if err != nil {
		return "", err
	}
	defer h.Close()
	name := l.Attrs().Name + "." + args[1]
	return name, h.LinkAdd(&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: name, ParentIndex: l.Attrs().Index}, VlanId: id})
}

// ping ADDRESS DURATION.
func (vm *vm) ping(args ...string) (string, error) {
	dst, err := netip.ParseAddr(args[0])
	if err != nil {
		return "", err
	}
	patience, err := time.ParseDuration(args[1])
	if err != nil {
		return "", err
	}
	return "", vm.Ping(dst, patience)
}

// send NIC FRAME sends the bytes of a frame, which are in hex.
func (vm *vm) send(args ...string) (string, error) {
	frame, err := hex.DecodeString(args[1])
	if err != nil {
		return "", err
	}
	h, err := vm.hearing(args[0])
	if err != nil {
		return "", err
	}
	return "", h.SendRaw(frame)
}

// tap NIC begins to listen for frames of the experimental EtherType.
func (vm *vm) tap(args ...string) (string, error) {
	_, err := vm.hearing(args[0])
	return "", err
}

func (vm *vm) hearing(key string) (*hearing, error) {
	l, err := vm.nic(key)
	if err != nil {
		return nil, err
	}
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if h, ok := vm.taps[l.Attrs().Name]; ok {
		return h, nil
	}
	t, err := vm.Tap(l.Attrs().Name)
	if err != nil {
		return nil, err
	}
	h := &hearing{Tap: t, payloads: map[string]bool{}, more: sync.NewCond(&vm.mu)}
	vm.taps[l.Attrs().Name] = h
	go func() {
		_ = t.Each(nil, func(payload string) { // it ends with the NIC
			vm.mu.Lock()
			defer vm.mu.Unlock()
			h.payloads[payload] = true
			h.more.Broadcast()
		})
	}()
	return h, nil
}

// heard NIC PAYLOAD DURATION waits until such a frame has come since the tap was opened.
func (vm *vm) heard(args ...string) (string, error) {
	h, err := vm.hearing(args[0])
	if err != nil {
		return "", err
	}
	patience, err := time.ParseDuration(args[2])
	if err != nil {
		return "", err
	}
	late := false
	timer := time.AfterFunc(patience, func() {
		vm.mu.Lock()
		defer vm.mu.Unlock()
		late = true
		h.more.Broadcast()
	})
	defer timer.Stop()
	vm.mu.Lock()
	defer vm.mu.Unlock()
	for !h.payloads[args[1]] && !late {
		h.more.Wait()
	}
	return strconv.FormatBool(h.payloads[args[1]]), nil
}

// answer ADDRESS:PORT serves TCP connections, as host.Serve does, and sends back what
// comes by UDP.
func (vm *vm) answer(args ...string) (string, error) {
	addr, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return "", err
	}
	if _, err := vm.Serve(addr); err != nil {
		return "", err
	}
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return "", err
	}
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo(b[:n], from)
		}
	}()
	return "", nil
}

// speak ADDRESS:PORT EVERY sends a datagram there again and again, to be heard of without being asked.
func (vm *vm) speak(args ...string) (string, error) {
	every, err := time.ParseDuration(args[1])
	if err != nil {
		return "", err
	}
	to, err := net.Dial("udp", args[0])
	if err != nil {
		return "", err
	}
	go func() {
		for range time.Tick(every) {
			_, _ = to.Write([]byte("here")) // nobody has to be there
		}
	}()
	return "", nil
}

// ask ADDRESS:PORT DURATION connects to such a server.
func (vm *vm) ask(args ...string) (string, error) {
	addr, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return "", err
	}
	patience, err := time.ParseDuration(args[1])
	if err != nil {
		return "", err
	}
	seen, err := vm.Ask(addr, patience)
	return seen.String(), err
}

func poweroff(...string) (string, error) {
	return "", unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func crash(...string) (string, error) {
	return "", os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
}

// tellPanic tells the hypervisor that the kernel has panicked, as its driver for QEMU's device does.
func tellPanic(...string) (string, error) {
	const at, panicked = 0x505, 1
	port, err := os.OpenFile("/dev/port", os.O_WRONLY, 0)
	if err != nil {
		return "", err
	}
	_, err = port.WriteAt([]byte{panicked}, at)
	return "", errors.Join(err, port.Close())
}
