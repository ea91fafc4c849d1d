package xfrm_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/plugins/ipsec/xfrm"
)

// run runs a program that has to succeed.
func run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// card makes a NIC in memory that takes SAs.
func card(t *testing.T, id int) (netdev string, index int) {
	t.Helper()
	bus := "/sys/bus/netdevsim"
	if err := os.WriteFile(bus+"/new_device", fmt.Appendf(nil, "%d 1 1", id), 0o200); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(bus+"/del_device", fmt.Appendf(nil, "%d", id), 0o200) })
	entries, err := os.ReadDir(fmt.Sprintf("%s/devices/netdevsim%d/net", bus, id))
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v: %v", entries, err)
	}
	netdev = entries[0].Name()
	run(t, "ip", "link", "set", netdev, "up")
	i, err := net.InterfaceByName(netdev)
	if err != nil {
		t.Fatal(err)
	}
	return netdev, i.Index
}

func open(t *testing.T) *xfrm.Conn {
	t.Helper()
	c, err := xfrm.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

const key = "0x0102030405060708090a0b0c0d0e0f1011121314"

// varies are the words of a state that a move changes: what works for it, and the number
// that it goes on with.
var varies = regexp.MustCompile(`(?m)^\s*crypto offload parameters.*\n|oseq(-hi)? 0x[0-9a-f]+`)

// TestMoveKeepsAllOfAnSA: what iproute2 shows of an SA with every setting that there is, is
// the same on a NIC, in software again, and where the NIC refuses; and SAs that nothing may
// be done to stay untouched.
func TestMoveKeepsAllOfAnSA(t *testing.T) {
	guest.Needs(t, guest.Netdevsim)
	netdev, index := card(t, 7)
	c := open(t)
	t.Cleanup(func() { run(t, "ip", "xfrm", "state", "flush") })
	for name, s := range map[string]struct {
		more    string
		refused string // how
	}{
		"plain":    {more: "mode transport aead rfc4106(gcm(aes)) " + key + " 128"},
		"all else": {more: "mode transport reqid 77 seq 9 replay-window 32 flag nopmtudisc wildrecv aead rfc4106(gcm(aes)) " + key + " 128 output-mark 0x7 mask 0xff if_id 0x2a mark 0x5 mask 0xff sel src 10.0.0.1 dst 10.0.0.2 proto udp sport 1000 limit time-soft 3000 limit time-hard 3600 limit byte-hard 1000000 limit packet-soft 50000"},
		"tunnel":   {more: "mode tunnel reqid 3 flag af-unspec aead rfc4106(gcm(aes)) " + key + " 128 extra-flag dont-encap-dscp"},
		"long":     {more: "mode transport replay-window 128 aead rfc4106(gcm(aes)) " + key + " 128 replay-oseq 0x50"},
		"ESN":      {more: "mode transport flag esn replay-window 128 aead rfc4106(gcm(aes)) " + key + " 128", refused: "ESN"},
		"CBC":      {more: "mode transport enc cbc(aes) 0x000102030405060708090a0b0c0d0e0f auth-trunc hmac(sha256) 0x000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f 128", refused: "key data"},
		"NAT":      {more: "mode transport encap espinudp 4500 4500 0.0.0.0 aead rfc4106(gcm(aes)) " + key + " 128", refused: "NAT"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, append(strings.Fields("ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x1001"), strings.Fields(s.more)...)...)
			defer run(t, "ip", "xfrm", "state", "flush")
			show := func() string { return varies.ReplaceAllString(run(t, "ip", "-s", "-d", "xfrm", "state"), "") }
			before := show()
			all, err := c.List()
			if err != nil || len(all) != 1 {
				t.Fatalf("%d SAs: %v", len(all), err)
			}
			sa, err := c.Move(all[0].Key(), index, xfrm.Outbound)
			on, _ := sa.Offload()
			if s.refused != "" {
				if !errors.Is(err, xfrm.ErrStays) || !strings.Contains(err.Error(), s.refused) || on != 0 {
					t.Fatalf("on %d: %v", on, err)
				}
			} else if err != nil || on != index {
				t.Fatalf("on %d, not %d: %v", on, index, err)
			}
			if s.refused == "" && !strings.Contains(run(t, "ip", "xfrm", "state"), "crypto offload parameters: dev "+netdev+" dir out") {
				t.Error("iproute2 does not see it on the NIC")
			}
			if after := show(); after != before {
				t.Errorf("it was\n%s\nand is\n%s", before, after)
			}
			if s.refused == "" {
				if sa, err = c.Move(sa.Key(), 0, xfrm.Outbound); err != nil {
					t.Fatal(err)
				}
			}
			if on, _ := sa.Offload(); on != 0 || show() != before {
				t.Errorf("taken back it is on %d:\n%s", on, show())
			}
		})
	}
}

// TestMoveOfWhatIsGone: an SA that its keeper removed is not made again.
func TestMoveOfWhatIsGone(t *testing.T) {
	guest.Needs(t, guest.Netdevsim)
	_, index := card(t, 7)
	c := open(t)
	add := strings.Fields("ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x1001 mode transport aead rfc4106(gcm(aes)) " + key + " 128")
	run(t, add...)
	all, err := c.List()
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	run(t, "ip", "xfrm", "state", "flush")
	if _, err := c.Move(all[0].Key(), index, xfrm.Outbound); !errors.Is(err, xfrm.ErrGone) {
		t.Errorf("%v, want %v", err, xfrm.ErrGone)
	}
	if left := run(t, "ip", "xfrm", "state"); left != "" {
		t.Errorf("there is\n%s", left)
	}
}

// TestManyEventsAtOnce: what has happened while nobody listened is told at once, in order. Who
// is told looks at all SAs each time.
func TestManyEventsAtOnce(t *testing.T) {
	guest.Needs(t, guest.Netdevsim)
	watch, err := xfrm.OpenWatch()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { run(t, "ip", "xfrm", "state", "flush") })
	const sas = 300
	run(t, "sh", "-c", fmt.Sprintf(`for i in $(seq 1 %d); do
		echo "xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi $i mode transport aead rfc4106(gcm(aes)) %s 128"
	done | ip -batch -`, sas, key))
	told, heard := 0, []xfrm.Event(nil)
	err = watch.Run(t.Context(), func(events []xfrm.Event) {
		told++
		if heard = append(heard, events...); len(heard) == sas {
			_ = watch.Close() // which ends it
		}
	})
	if err != nil || told != 1 {
		t.Errorf("told %d times: %v", told, err)
	}
	for i, e := range heard {
		if e.Kind != xfrm.Added || e.SA.Key().SPI != uint32(i+1) {
			t.Fatalf("event %d is %d of %s", i, e.Kind, e.SA.Key())
		}
	}
}

// spawn runs fn on a thread in a network namespace that ip netns made.
func spawn(t *testing.T, ns string, fn func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		f, err := os.Open("/run/netns/" + ns)
		if err == nil {
			err = errors.Join(unix.Setns(int(f.Fd()), unix.CLONE_NEWNET), f.Close())
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// street makes two namespaces with a cable between them, 10.9.0.1 at one end and 10.9.0.2
// at the other, and policies and SAs that encrypt everything between them.
func street(t *testing.T, a, b string) {
	t.Helper()
	for _, ns := range []string{a, b} {
		run(t, "ip", "netns", "add", ns)
		t.Cleanup(func() { run(t, "ip", "netns", "del", ns) })
	}
	run(t, "ip", "-n", a, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", b)
	for i, ns := range []string{a, b} {
		run(t, "ip", "-n", ns, "link", "set", "lo", "up")
		run(t, "ip", "-n", ns, "link", "set", "wire", "up")
		run(t, "ip", "-n", ns, "addr", "add", fmt.Sprintf("10.9.0.%d/24", i+1), "dev", "wire")
		for _, way := range []struct{ spi, src, dst string }{{"0x11", "10.9.0.1", "10.9.0.2"}, {"0x12", "10.9.0.2", "10.9.0.1"}} {
			run(t, "ip", "-n", ns, "xfrm", "state", "add", "src", way.src, "dst", way.dst, "proto", "esp", "spi", way.spi, "reqid", "1",
				"mode", "transport", "replay-window", "32", "aead", "rfc4106(gcm(aes))", key, "128")
			dir := "out"
			if (way.spi == "0x11") != (i == 0) {
				dir = "in"
			}
			run(t, "ip", "-n", ns, "xfrm", "policy", "add", "src", way.src, "dst", way.dst, "proto", "icmp", "dir", dir,
				"tmpl", "src", way.src, "dst", way.dst, "proto", "esp", "reqid", "1", "mode", "transport")
		}
	}
}

// TestMoveUnderTraffic: real encryption, with pings all the time while both ends' SAs are
// removed and made anew some hundred times, here by a device that takes SAs and does not work for them. Nothing
// leaves in plain, no number is used twice, and the pings go on.
func TestMoveUnderTraffic(t *testing.T) {
	guest.Needs(t, guest.Netdevsim)
	street(t, "mova", "movb")
	conns, index, sniffers := map[string]*xfrm.Conn{}, map[string]int{}, map[string]int{}
	for _, ns := range []string{"mova", "movb"} {
		spawn(t, ns, func() (err error) {
			if conns[ns], err = xfrm.Open(); err != nil {
				return err
			}
			if sniffers[ns], err = sniffer(); err != nil {
				return err
			}
			h, err := netlink.NewHandle()
			if err != nil {
				return err
			}
			defer h.Close()
			wire, err := h.LinkByName("wire")
			if err == nil {
				index[ns] = wire.Attrs().Index
			}
			return err
		})
		t.Cleanup(func() { _ = errors.Join(conns[ns].Close(), unix.Close(sniffers[ns])) })
	}
	const pings = 400
	ping := exec.Command("ip", "netns", "exec", "mova", "ping", "-i", "0.005", "-c", strconv.Itoa(pings), "-W", "1", "10.9.0.2")
	out, err := ping.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := ping.Start(); err != nil {
		t.Fatal(err)
	}
	answers, moves := 0, 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if !strings.Contains(lines.Text(), "bytes from") {
			continue
		}
		if answers++; answers%5 == 0 {
			moves += moveAll(t, conns, index)
		}
	}
	if err := ping.Wait(); err != nil {
		t.Errorf("ping: %v", err)
	}
	t.Logf("%d moves; %d of %d pings were answered", moves, answers, pings)
	if moves < 200 || answers < pings/2 {
		t.Errorf("%d moves, %d answers to %d pings", moves, answers, pings)
	}
	for _, ns := range []string{"mova", "movb"} {
		if esp, plain := sniffed(t, sniffers[ns]); esp < answers || plain > 0 {
			t.Errorf("%s received %d packets encrypted, and %d in plain", ns, esp, plain)
		}
		stat := run(t, "ip", "netns", "exec", ns, "cat", "/proc/net/xfrm_stat")
		for _, never := range []string{"XfrmInStateSeqError", "XfrmInStateProtoError", "XfrmOutStateSeqError", "XfrmInTmplMismatch", "XfrmInNoPols"} {
			if n := regexp.MustCompile(never + `\s+(\d+)`).FindStringSubmatch(stat); n == nil || n[1] != "0" {
				t.Errorf("%s: %v", ns, n)
			}
		}
	}
}

// moveAll removes each SA of the namespaces and makes it anew.
func moveAll(t *testing.T, conns map[string]*xfrm.Conn, index map[string]int) (moves int) {
	t.Helper()
	for ns, c := range conns {
		all, err := c.List()
		all = slices.DeleteFunc(all, func(sa xfrm.SA) bool { return sa.Key().SPI == 0 }) // asked for by a ping in between
		if err != nil || len(all) != 2 {
			t.Fatalf("%s has %d SAs: %v", ns, len(all), err)
		}
		for _, sa := range all {
			d := xfrm.Inbound
			if (sa.Dst().String() == "10.9.0.2") == (ns == "mova") {
				d = xfrm.Outbound
			}
			if _, err := c.Move(sa.Key(), index[ns], d); !errors.Is(err, xfrm.ErrStays) {
				t.Fatalf("%s: %v", ns, err)
			}
			moves++
		}
	}
	return moves
}

// sniffer makes a socket that catches the IPv4 packets that come in.
func sniffer() (int, error) {
	const ip = unix.ETH_P_IP>>8 | unix.ETH_P_IP<<8&0xff00 // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, ip)
	if err != nil {
		return 0, err
	}
	return fd, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
}

// sniffed counts the packets that a socket has caught, ESP and others.
func sniffed(t *testing.T, fd int) (esp, plain int) {
	t.Helper()
	buffer := make([]byte, 4096)
	for {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return esp, plain
		case err != nil:
			t.Fatal(err)
		case n >= 20 && buffer[9] == unix.IPPROTO_ESP:
			esp++
		default:
			plain++
		}
	}
}
