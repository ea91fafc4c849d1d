package kernel

import (
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// TestAnnouncementFrames has the frames as they are on the wire.
func TestAnnouncementFrames(t *testing.T) {
	mac := vswitch.MAC{2, 0, 0, 0, 0, 9}
	const padding = "000000000000000000000000000000000000"
	for _, c := range []struct {
		name, want string
		frame      []byte
	}{
		{"RARP", "ffffffffffff" + "020000000009" + "8035" + "0001080006040003" + "02000000000900000000" + "02000000000900000000" + padding, rarp(mac)},
		{"RARP in VLAN 7", "ffffffffffff" + "020000000009" + "81000007" + "8035" + "0001080006040003" + "02000000000900000000" + "02000000000900000000" + padding, tagged(rarp(mac), 7)},
		{
			"ARP in VLAN 4094", "ffffffffffff" + "020000000009" + "81000ffe" + "0806" + "0001080006040001" + "020000000009c0000201" + "000000000000c0000201",
			tagged(gratuitousARP(mac, netip.MustParseAddr("192.0.2.1")), 4094),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := hex.EncodeToString(c.frame); got != c.want {
				t.Errorf("got\n%s, want\n%s", got, c.want)
			}
		})
	}
}

// TestAnnounces256 has 256 guests announced, each by a RARP and for his two addresses:
// every frame comes out at the other end, and within the time that a failover may take.
func TestAnnounces256(t *testing.T) {
	ns := newNS(t)
	sh(t, ns, "ip link add m0 type veth peer name port0\nip link set m0 addrgenmode none up\nip link set port0 addrgenmode none up")
	const guests = 256
	step := plan.AnnounceMACs{Netdev: "m0"}
	for i := range guests {
		step.Guests = append(step.Guests, plan.Guest{MAC: vswitch.MAC{2, 0, 0, 0, 1, byte(i)}, VLANs: []int{0}, Addresses: []netip.Addr{
			netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), netip.MustParseAddr("2001:db8::1"),
		}})
	}
	l := listen(t, ns, "port0")
	if err := unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, announceBuffer); err != nil {
		t.Fatal(err)
	}
	var took time.Duration
	within(t, ns, func() error {
		start := time.Now()
		announceMACs(step)
		took = time.Since(start)
		return nil
	})
	for n := range 3 * guests {
		if !l.receive(time.Now().Add(patience)) {
			t.Fatalf("%d of %d frames came", n, 3*guests)
		}
	}
	first := make(map[string]bool)
	for _, f := range l.frames[:guests] {
		first[hex.EncodeToString(f[6:12])] = true
	}
	if len(first) != guests {
		t.Errorf("the first %d frames are from %d guests", guests, len(first))
	}
	t.Logf("%d guests announced in %v", guests, took.Round(10*time.Microsecond))
}
