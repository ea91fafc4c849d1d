package steering

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/kernel/ethtool"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/conformance"
	"github.com/patchbay-net/patchbay/sdk/host"
)

// plugin is the executable that `make build` makes.
const plugin = "../../../bin/plugins/patchbay-plugin-vmq"

// busy is how long anything may take in a guest on a busy machine.
const busy = 5 * time.Minute

// TestNetdevsim is the provider with a driver that steers frames, netdevsim with
// integration/guest/boot/netdevsim, and with one that does not, igb.
func TestNetdevsim(t *testing.T) {
	guest.Needs(t, guest.Netdevsim, guest.NICs)
	l := newLab(t)
	t.Run("conformance", func(t *testing.T) {
		conformance.Test(t, conformance.InMemory(func() sdk.Provider { return New("test") }), conformance.Options{Config: l.config(t), Timeout: busy})
		l.checkFound(t)
	})
	t.Run("frames", l.frames)
	t.Run("refusals", l.refusals)
	t.Run("killed", l.killed)
	t.Run("queues change", l.queuesChange)
	t.Run("igb", l.igb)
	t.Run("bound anew", l.boundAnew) // the last: the NIC is another one then
}

// lab is a netdevsim NIC with 8 queues, cabled to another one.
type lab struct {
	conn      *ethtool.Conn
	nic, peer string // netdevs
	id        string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	run(t, "mount", "-t", "debugfs", "debugfs", "/sys/kernel/debug")
	conn, err := ethtool.Open()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{conn: conn, nic: newDevice(t, 7), peer: newDevice(t, 8), id: "netdevsim7"}
	l.cable(t)
	return l
}

// newDevice makes a netdevsim NIC with 8 queues.
func newDevice(t *testing.T, id int) string {
	t.Helper()
	write(t, "/sys/bus/netdevsim/new_device", fmt.Sprintf("%d 1 8", id))
	netdevs, err := os.ReadDir(fmt.Sprintf("/sys/bus/netdevsim/devices/netdevsim%d/net", id))
	if err != nil || len(netdevs) != 1 {
		t.Fatal(netdevs, err)
	}
	run(t, "ip", "link", "set", netdevs[0].Name(), "up")
	return netdevs[0].Name()
}

// cable joins the NICs.
func (l *lab) cable(t *testing.T) {
	t.Helper()
	ns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close() //nolint:errcheck // it names a namespace
	write(t, "/sys/bus/netdevsim/link_device", fmt.Sprintf("%d:%d %d:%d", ns.Fd(), index(t, l.nic), ns.Fd(), index(t, l.peer)))
}

func index(t *testing.T, netdev string) int {
	t.Helper()
	i, err := net.InterfaceByName(netdev)
	if err != nil {
		t.Fatal(err)
	}
	return i.Index
}

func run(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
}

// knob sets what of the driver is in debugfs.
func knob(t *testing.T, name, value string) {
	t.Helper()
	write(t, "/sys/kernel/debug/netdevsim/netdevsim7/ports/0/steering/"+name, value)
}

func (l *lab) config(t *testing.T) []byte {
	t.Helper()
	return []byte(fmt.Sprintf(`{%q: %q}`, keyState, filepath.Join(t.TempDir(), "vmq.json")))
}

// checkFound demands that the NIC is as the driver made it.
func (l *lab) checkFound(t *testing.T) {
	t.Helper()
	table, err := l.conn.Indirection(l.nic)
	if err != nil || !cmp.Equal(table, ownTable(128, 8)) {
		t.Errorf("indirection table %v, %v", table, err)
	}
	s, err := l.conn.NTuple(l.nic)
	if err != nil || s != (ethtool.Switch{}) {
		t.Errorf("rules are %+v, %v", s, err)
	}
	rules, err := l.conn.Rules(l.nic)
	if err != nil || len(rules.All) > 0 {
		t.Errorf("rules %+v, %v", rules, err)
	}
}

// provider is one in this process.
func (l *lab) provider(t *testing.T) *bench {
	t.Helper()
	b := &bench{Provider: New("test"), t: t}
	if err := b.Configure(t.Context(), sdk.Config{keyState: filepath.Join(t.TempDir(), "vmq.json")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (l *lab) request(n int) sdk.Request {
	r := request(n)
	r.NIC = l.id
	return r
}

// frames go to the port's queue, as the NIC counts them, and others do not.
func (l *lab) frames(t *testing.T) {
	b := l.provider(t)
	tagged := l.request(2)
	tagged.VLAN = 42
	one, two := b.ensure(l.request(1)), b.ensure(tagged)
	if one.Queue != 7 || two.Queue != 6 {
		t.Errorf("queues %d and %d", one.Queue, two.Queue)
	}
	counted := func(r sdk.Request) uint64 {
		t.Helper()
		c, err := b.Counters(t.Context(), r.Ref)
		if err != nil {
			t.Fatal(err)
		}
		return c["rx_packets"]
	}
	const many = 50
	for _, c := range []struct {
		what     string
		r        sdk.Request
		vlan     int
		to1, to2 uint64
	}{
		{"of the first port", l.request(1), 0, many, 0},
		{"of the second", l.request(2), 42, 0, many},
		{"of the second in another VLAN", l.request(2), 43, 0, 0},
		{"of a port without a queue", l.request(3), 0, 0, 0},
	} {
		before1, before2 := counted(l.request(1)), counted(tagged)
		l.send(t, c.r.MAC, c.vlan, many)
		if to1, to2 := counted(l.request(1))-before1, counted(tagged)-before2; to1 != c.to1 || to2 != c.to2 {
			t.Errorf("of %d frames %s %d went to the first port's queue, and %d to the second's", many, c.what, to1, to2)
		}
	}
	b.release(1)
	b.release(2)
	l.checkFound(t)
}

// send sends frames of as many flows to the NIC and waits until it received all of them.
func (l *lab) send(t *testing.T, to vswitch.MAC, vlan, many int) {
	t.Helper()
	const kind = 0x88b5 // for experiments
	in, out := raw(t, l.nic), raw(t, l.peer)
	defer in.Close()  //nolint:errcheck // it was only read
	defer out.Close() //nolint:errcheck // all of it was sent
	if err := in.SetReadDeadline(time.Now().Add(busy)); err != nil {
		t.Fatal(err)
	}
	marks := map[byte]bool{}
	for i := range many {
		frame := append(to[:], 0x02, 0, 0, 0, 0x99, byte(i))
		if vlan != 0 {
			frame = binary.BigEndian.AppendUint16(append(frame, 0x81, 0), uint16(vlan))
		}
		frame = append(binary.BigEndian.AppendUint16(frame, kind), make([]byte, 60)...)
		frame[len(frame)-1] = byte(i)
		marks[byte(i)] = true
		if _, err := out.Write(frame); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 2048)
	for len(marks) > 0 {
		n, err := in.Read(buf)
		if err != nil {
			t.Fatalf("of %d frames %d did not come: %v", many, len(marks), err)
		}
		if bytes.HasPrefix(buf[:n], to[:]) {
			delete(marks, buf[n-1])
		}
	}
}

// raw is a netdev's wire.
func raw(t *testing.T, netdev string) *os.File {
	t.Helper()
	const all = uint16(unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index(t, netdev)}); err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), netdev)
}

// refusals of the driver become reasons, and leave nothing.
func (l *lab) refusals(t *testing.T) {
	for _, c := range []struct {
		knob, value, back string
		want              vswitch.Reason
	}{
		{"refuse", "28", "0", vswitch.NoFreeFilter},    // ENOSPC
		{"refuse", "22", "0", vswitch.Refused},         // EINVAL
		{"refuse", "95", "0", vswitch.NoDriverSupport}, // EOPNOTSUPP
		{"slots", "1", "64", ""},
		{"no_vlan", "Y", "N", ""},
		{"any", "Y", "N", ""},
	} {
		t.Run(c.knob+" "+c.value, func(t *testing.T) {
			knob(t, c.knob, c.value)
			defer knob(t, c.knob, c.back)
			b := l.provider(t)
			r := l.request(1)
			r.VLAN = 42
			_, err := b.Ensure(t.Context(), r)
			if got := sdk.ReasonOf(err); got != c.want || (err == nil) != (c.want == "") {
				t.Errorf("reason %q of %v", got, err)
			}
			if c.knob == "slots" {
				if _, err := b.Ensure(t.Context(), l.request(2)); sdk.ReasonOf(err) != vswitch.NoFreeFilter {
					t.Errorf("a second rule: %v", err)
				}
			}
			b.release(1)
			l.checkFound(t)
		})
	}
}

// killed: a plugin that is killed loses nothing, and the one that the host starts instead
// puts the NIC back.
func (l *lab) killed(t *testing.T) {
	e, err := host.ExecutableAt(plugin)
	if err != nil {
		t.Fatal(err)
	}
	limits := host.DefaultLimits()
	limits.Start, limits.Read, limits.Change = busy, busy, busy
	p := host.Open(host.Options{Executable: e, Config: l.config(t), RunDir: t.TempDir(), Log: slog.New(slog.DiscardHandler), Vouched: true, Limits: limits})
	defer p.Close()
	want, err := p.Ensure(t.Context(), l.request(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(p.Status().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var got []sdk.Grant
	for range 2 { // the first call may be the one that fails with the process
		if got, err = p.Grants(t.Context()); err == nil {
			break
		}
	}
	if diff := cmp.Diff([]sdk.Grant{want}, got); diff != "" {
		t.Errorf("%v: %s", err, diff)
	}
	if err := p.Release(t.Context(), want.Ref, 1); err != nil {
		t.Error(err)
	}
	l.checkFound(t)
}

// queuesChange: the kernel keeps an administrator from taking the queues of rules away, and
// what is added serves ports and everybody else.
func (l *lab) queuesChange(t *testing.T) {
	run(t, "ethtool", "-L", l.nic, "combined", "4")
	b := l.provider(t)
	ctx, cancel := context.WithTimeout(t.Context(), busy)
	defer cancel()
	capacities := make(chan int, 10)
	go func() {
		_ = b.WatchInventory(ctx, func(i sdk.Inventory) error { // until ctx ends
			for _, n := range i.NICs {
				if n.ID == l.id {
					capacities <- n.Capabilities.VMQ.Capacity
				}
			}
			return nil
		})
	}()
	wait := func(want int) {
		t.Helper()
		for {
			select {
			case got := <-capacities:
				if got == want {
					return
				}
			case <-ctx.Done():
				t.Fatalf("capacity never became %d", want)
			}
		}
	}
	wait(3)
	if g := b.ensure(l.request(1)); g.Queue != 3 {
		t.Errorf("queue %d", g.Queue)
	}
	if out, err := exec.Command("ethtool", "-L", l.nic, "combined", "3").CombinedOutput(); err == nil {
		t.Errorf("the queue of a rule was taken away: %s", out)
	}
	run(t, "ethtool", "-L", l.nic, "combined", "8")
	wait(7)
	got, err := l.conn.Indirection(l.nic)
	if want := around(ownTable(128, 8), []grant{{Queue: 3}}); err != nil || !cmp.Equal(got, want) {
		t.Errorf("indirection table %v, %v", got, err)
	}
	b.release(1)
	l.checkFound(t)
}

// igb: the NIC that qemu emulates has no such rules, and says so.
func (l *lab) igb(t *testing.T) {
	b := l.provider(t)
	var nic sdk.NIC
	enough := errors.New("enough")
	if err := b.WatchInventory(t.Context(), func(i sdk.Inventory) error {
		for _, n := range i.NICs {
			if n.Netdev == "n0" {
				nic = n
			}
		}
		return enough
	}); !errors.Is(err, enough) {
		t.Fatal(err)
	}
	if nic.Driver != "igb" || !strings.HasPrefix(nic.ID, "0000:") || nic.Capabilities.VMQ != (vswitch.Capability{Missing: vswitch.NoDriverSupport}) {
		t.Errorf("inventory: %+v", nic)
	}
	r := request(1)
	r.NIC = nic.ID
	if _, err := b.Ensure(t.Context(), r); sdk.ReasonOf(err) != vswitch.NoDriverSupport {
		t.Errorf("ensure: %v", err)
	}
	// Its driver counts by queue with names of its own, not by the kernel's.
	i := ethtool.Adapter{Index: index(t, "n0"), Netdev: "n0"}
	if counted, err := l.conn.QueueCounters(i, 0); err != nil || len(counted) != 2 {
		t.Errorf("counters: %v, %v", counted, err)
	}
}

// boundAnew: what a NIC held that is gone is told as lost, and the next one begins anew.
func (l *lab) boundAnew(t *testing.T) {
	b := l.provider(t)
	ctx, cancel := context.WithTimeout(t.Context(), busy)
	defer cancel()
	listening := b.events.add() // as WatchEvents does, before anything happens
	b.ensure(l.request(1))
	write(t, "/sys/bus/netdevsim/del_device", "7")
	var kinds []sdk.EventKind
	for len(kinds) < 2 {
		select {
		case <-listening.ready:
		case <-ctx.Done():
			t.Fatalf("events %v", kinds)
		}
		for _, e := range b.events.pending(listening) {
			kinds = append(kinds, e.Kind)
		}
	}
	if want := []sdk.EventKind{sdk.NICReset, sdk.GrantLost}; !cmp.Equal(kinds, want) {
		t.Errorf("events %v", kinds)
	}
	if got := b.grants(); len(got) > 0 {
		t.Errorf("grants %v", got)
	}
	l.nic = newDevice(t, 7)
	if g := b.ensure(l.request(1)); g.Queue != 7 {
		t.Errorf("queue %d", g.Queue)
	}
	b.release(1)
	l.checkFound(t)
}
