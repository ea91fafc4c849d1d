package kernel

import (
	"context"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// What guests send is counted at their own classes, the default flow's together, and what a
// class has no room for as dropped; a class that goes takes its count with it.
func TestShareCounters(t *testing.T) {
	const frames = 200
	l := newSharedLab(t, 3, 10)
	sh(t, l.host, "bridge fdb add 02:00:00:00:01:00 dev "+uplinkName+" master static")
	l.reach(t, weights(1, 90, 9)) // the third guest has none
	count := func() ShareCounters {
		t.Helper()
		var all map[string]ShareCounters
		var err error
		within(t, l.host, func() error {
			k := NewLinux()
			all, err = k.ShareCounters(context.Background(), uplinkName, "nobody")
			return k.Close()
		})
		if err != nil || len(all) > 1 {
			t.Fatalf("%v, %v", all, err)
		}
		return all[uplinkName]
	}
	one, two, others := vswitch.MAC(macOf(1)), vswitch.MAC(macOf(2)), vswitch.MAC{}
	for mac, c := range count() {
		if c != (ClassCounters{}) {
			t.Errorf("%s begins with %+v", mac, c)
		}
	}
	// The third guest's are more than the tap takes and the default flow's queue holds.
	sh(t, l.host, "tc qdisc replace dev "+uplinkName+" parent 5043:2 pfifo limit 60")
	for g, n := range map[int]int{1: 3, 2: 5, 3: frames} {
		socket := listen(t, l.guests[g-1], "eth0")
		frame := ethernet([6]byte{2, 0, 0, 0, 1, 0}, macOf(byte(g)), 0x88b5, make([]byte, 986))
		for range n {
			if _, err := unix.Write(socket.fd, frame); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.sent(t, 60_000) // the first guests' eight, and more than the others are promised
	got := count()
	for mac, frames := range map[vswitch.MAC]uint64{one: 3, two: 5} {
		c := got[mac]
		if c.Packets+c.Waiting/1000 != frames || c.Bytes+c.Waiting != frames*1000 || c.Dropped != 0 {
			t.Errorf("of %s: %+v, want %d frames of 1000 bytes", mac, c, frames)
		}
	}
	if c := got[others]; c.Dropped == 0 || c.Dropped+c.Packets+c.Waiting/1000 != frames || c.Borrowed == 0 {
		t.Errorf("of the default flow: %+v, want %d frames, some dropped and some beyond its 100 kbit/s", c, frames)
	}
	l.reach(t, weights(1, 90))
	if _, there := count()[two]; there || len(count()) != 2 {
		t.Errorf("after one has gone: %+v", count())
	}
	l.reach(t, weights(1))
	if c := count(); len(c) != 0 || strings.Contains(l.tc(t), "htb") {
		t.Errorf("nothing is shared: %+v", c)
	}
}
