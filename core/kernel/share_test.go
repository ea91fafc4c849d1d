package kernel

import (
	"context"
	"fmt"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// uplink is a tap in the place of a NIC: what it sends can be read, and it is as fast as it
// is told to be.
type uplink struct {
	ns   *os.File
	file *os.File
}

const uplinkName = "up0"

func newUplink(t *testing.T, ns *os.File, speed int) *uplink {
	t.Helper()
	u := &uplink{ns: ns}
	within(t, ns, func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		request, err := unix.NewIfreq(uplinkName)
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
			return err
		}
		u.file = os.NewFile(uintptr(fd), "tap")
		return nil
	})
	t.Cleanup(func() { _ = u.file.Close() })
	u.runAt(t, speed)
	sh(t, ns, "ip link set "+uplinkName+" up")
	return u
}

// runAt makes it so many Mbit/s fast.
func (u *uplink) runAt(t *testing.T, speed int) {
	t.Helper()
	const get, set = 1, 2 // ETHTOOL_GSET, ETHTOOL_SSET
	within(t, u.ns, func() error {
		c := linkSettings{command: get}
		if err := c.ask(uplinkName); err != nil {
			return err
		}
		c.command, c.speed, c.speedHigh = set, uint16(speed), uint16(speed>>16)
		return c.ask(uplinkName)
	})
}

// sent reads what the uplink sends until it is so many bytes, and tells how many of them are
// from each address.
func (u *uplink) sent(t *testing.T, bytes int) map[vswitch.MAC]int {
	t.Helper()
	if err := u.file.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	from, frame := make(map[vswitch.MAC]int), make([]byte, 2048)
	for bytes > 0 {
		n, err := u.file.Read(frame)
		if err != nil {
			t.Fatal(err)
		}
		from[vswitch.MAC(frame[6:12])] += n
		bytes -= n
	}
	return from
}

// sharedLab is a host with guests behind a bridge whose way out is an uplink.
type sharedLab struct {
	*lab
	*uplink
	k Kernel
}

func newSharedLab(t *testing.T, guests, speed int) *sharedLab {
	t.Helper()
	l := newLab(t, guests, 0)
	s := &sharedLab{lab: l, uplink: newUplink(t, l.host, speed), k: elsewhere{NewLinux(), l.host}}
	sh(t, l.host, "ip link set "+uplinkName+" master pb-lab")
	return s
}

func (l *sharedLab) observe(t *testing.T, want plan.Sharing) plan.State {
	t.Helper()
	seen, err := l.k.Observe(context.Background(), plan.State{Shares: map[string]plan.Sharing{uplinkName: want}})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// reach has the uplink shared and fails unless a second plan is empty.
func (l *sharedLab) reach(t *testing.T, want plan.Sharing) {
	t.Helper()
	desired := plan.State{Shares: map[string]plan.Sharing{uplinkName: want}}
	steps := plan.Diff(desired, l.observe(t, want))
	if err := l.k.Apply(context.Background(), steps); err != nil {
		t.Fatalf("%v\nplan:\n%s", err, words(steps))
	}
	if again := plan.Diff(desired, l.observe(t, want)); len(again) > 0 {
		t.Fatalf("the second plan is not empty:\n%s\nafter:\n%s", words(again), words(steps))
	}
}

// tc shows the uplink's classes without what changes by itself.
func (l *sharedLab) tc(t *testing.T) string {
	t.Helper()
	text := sh(t, l.host, fmt.Sprintf("tc qdisc show dev %[1]s; tc class show dev %[1]s | sort; tc filter show dev %[1]s", uplinkName))
	return regexp.MustCompile(` refcnt \d+| direct_packets_stat \d+|leaf [0-9a-f]+: |qdisc fq_codel.*\n|class fq_codel.*\n| direct_qlen \d+`).ReplaceAllString(text, "")
}

func weights(others uint64, of ...uint64) plan.Sharing {
	s := plan.Sharing{Default: others, Ports: make(map[vswitch.MAC]uint64)}
	for i, n := range of {
		if n > 0 {
			s.Ports[vswitch.MAC(macOf(byte(i+1)))] = n
		}
	}
	return s
}

func rates(others uint64, of ...uint64) plan.Sharing {
	s := weights(others, of...)
	s.Absolute = true
	return s
}

func TestSharesAreReached(t *testing.T) {
	l := newSharedLab(t, 0, 1000)
	pristine := sh(t, l.host, "tc qdisc show dev "+uplinkName)
	for _, c := range []struct {
		name string
		want plan.Sharing
		says []string
		not  string
	}{
		{"by weight", weights(1, 30, 69), []string{
			"qdisc htb 5043: root r2q 10 default 0x2", "class htb 5043:1 root rate 1Gbit ceil 1Gbit",
			"class htb 5043:2 parent 5043:1 prio 0 rate 10Mbit ceil 1Gbit", "class htb 5043:10 parent 5043:1 prio 0 rate 300Mbit ceil 1Gbit",
			"class htb 5043:11 parent 5043:1 prio 0 rate 690Mbit", "match 02000000/ffffffff at -8", "match 00010000/ffff0000 at -4",
		}, ""},
		{"one goes", weights(1, 0, 99), []string{"class htb 5043:11 parent 5043:1 prio 0 rate 990Mbit", "flowid 5043:11"}, "5043:10"},
		{"another comes", weights(2, 0, 48, 50), []string{"class htb 5043:10 parent 5043:1 prio 0 rate 500Mbit", "5043:2 parent 5043:1 prio 0 rate 20Mbit"}, ""},
		{"by rates", rates(0, 0, 200e6, 50e6), []string{"5043:11 parent 5043:1 prio 0 rate 200Mbit", "5043:10 parent 5043:1 prio 0 rate 50Mbit", "5043:2 parent 5043:1 prio 0 rate 100Mbit"}, ""},
		{"by more than there is", rates(100e6, 1.9e9), []string{"prio 0 rate 950Mbit", "5043:2 parent 5043:1 prio 0 rate 50Mbit"}, ""},
	} {
		l.reach(t, c.want)
		got := l.tc(t)
		for _, w := range c.says {
			if !strings.Contains(got, w) {
				t.Errorf("%s: %q is not in\n%s", c.name, w, got)
			}
		}
		if c.not != "" && strings.Contains(got, c.not) {
			t.Errorf("%s: %q is in\n%s", c.name, c.not, got)
		}
	}
	l.runAt(t, 40_000) // more than 32 bits of bytes a second
	l.reach(t, rates(0, 36e9))
	if got := l.tc(t); !strings.Contains(got, "rate 36Gbit ceil 40Gbit") {
		t.Error(got)
	}
	l.reach(t, plan.Sharing{})
	if diff := cmp.Diff(pristine, sh(t, l.host, "tc qdisc show dev "+uplinkName)); diff != "" {
		t.Errorf("left:\n%s", diff)
	}
}

// A root queue that somebody has given the uplink is told from the kernel's own.
func TestGivenQueuesAreSeen(t *testing.T) {
	l := newSharedLab(t, 0, 1000)
	for _, c := range []struct{ command, want string }{
		{"true", ""},
		{"tc qdisc add dev up0 root pfifo", "pfifo [89a-f]???:"}, // the kernel counts from 8000 on, for the whole machine
		{"tc qdisc replace dev up0 root handle 77: htb default 2", "htb 77:"},
		{"tc qdisc del dev up0 root", ""},
		{"tc qdisc add dev up0 ingress", ""},
		{"tc qdisc add dev up0 root handle 78: pfifo", "pfifo 78:"},
	} {
		sh(t, l.host, c.command)
		if got := l.observe(t, weights(1)).Shares[uplinkName]; got.Tree != nil || !matches(c.want, got.Queue) {
			t.Errorf("%s: %+v, want %q", c.command, got, c.want)
		}
	}
	steps := plan.Diff(plan.State{Shares: map[string]plan.Sharing{uplinkName: weights(1, 30)}}, l.observe(t, weights(1, 30)))
	if s, is := steps[0].(plan.MakeShares); !is || s.Replaces != "pfifo 78:" {
		t.Errorf("%+v does not tell what it replaces", steps)
	}
	l.reach(t, weights(1, 30))
	if got := l.observe(t, weights(1, 30)).Shares[uplinkName]; got.Queue != "" || got.Tree == nil {
		t.Errorf("ours is taken for somebody's: %+v", got)
	}
}

func matches(pattern, s string) bool {
	ok, err := path.Match(pattern, s)
	return ok && err == nil
}

// A link of which nobody knows how fast it is has no classes, and keeps those that it had.
func TestSharesOfAnUnknownLink(t *testing.T) {
	const unknown = 0xffff_ffff
	l := newSharedLab(t, 0, unknown)
	l.reach(t, weights(1, 30))
	if got := l.tc(t); strings.Contains(got, "htb") {
		t.Error(got)
	}
	l.runAt(t, 100)
	l.reach(t, weights(1, 99))
	l.runAt(t, unknown)
	l.reach(t, weights(1, 49, 50))
	if got := l.tc(t); !strings.Contains(got, "rate 49Mbit ceil 100Mbit") {
		t.Error(got)
	}
}

// What a stranger does to classes is seen, and mended.
func TestSharesAreMended(t *testing.T) {
	l := newSharedLab(t, 0, 1000)
	want := weights(1, 30, 69)
	l.reach(t, want)
	whole := l.tc(t)
	for _, harm := range []string{
		"tc qdisc del dev UP root", "tc qdisc replace dev UP root handle 1: htb", "tc qdisc del dev UP root; tc qdisc add dev UP root handle 5043: tbf rate 1mbit burst 10k latency 1ms",
		"tc class change dev UP classid 5043:10 htb rate 1mbit", "tc class change dev UP classid 5043:1 htb rate 1mbit", "tc class change dev UP classid 5043:2 htb rate 1mbit ceil 2mbit",
		"tc class change dev UP parent 5043:1 classid 5043:10 htb rate 300mbit ceil 1gbit burst 1k quantum 1980000",
		"tc class add dev UP parent 5043:1 classid 5043:99 htb rate 1mbit", "tc filter del dev UP parent 5043:",
		"tc filter del dev UP parent 5043: protocol all pref 1 handle 1:1:10 u32", "tc filter del dev UP parent 5043: protocol all pref 1 handle 800::800 u32",
		"tc filter add dev UP parent 5043: protocol all pref 1 u32 match u32 0 0 flowid 5043:2",
	} {
		sh(t, l.host, strings.ReplaceAll(harm, "UP", uplinkName))
		if rest := plan.Diff(plan.State{Shares: map[string]plan.Sharing{uplinkName: want}}, l.observe(t, want)); len(rest) == 0 {
			t.Errorf("%s: nobody sees it", harm)
		}
		l.reach(t, want)
		if diff := cmp.Diff(whole, l.tc(t)); diff != "" {
			t.Errorf("%s (-whole +mended):\n%s", harm, diff)
		}
	}
}

// TestSharesAreKept sends from guests all that goes, and reads what leaves.
func TestSharesAreKept(t *testing.T) {
	const speed, third = 10, 3 // slow enough for senders that have to wait for a processor
	outside := [6]byte{2, 0, 0, 0, 1, 0}
	for _, c := range []struct {
		name string
		want plan.Sharing
		send []int     // which guests
		part []float64 // of the link, at the least
	}{
		{"by weight", weights(10, 60, 30), []int{1, 2, third}, []float64{.60, .30, .10}},
		{"two of three", weights(10, 60, 30), []int{2, third}, []float64{0, .75, .25}},
		{"one alone", weights(10, 60, 30), []int{third}, []float64{0, 0, 1}},
		{"by rates", rates(0, 6e6, 1e6), []int{1, 2, third}, []float64{.60, .10, .10}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newSharedLab(t, 3, speed)
			sh(t, l.host, fmt.Sprintf("bridge fdb add 02:00:00:00:01:00 dev %s master static", uplinkName))
			l.reach(t, c.want)
			stop := make(chan struct{})
			defer close(stop)
			for _, g := range c.send {
				socket := listen(t, l.guests[g-1], "eth0")
				frame := ethernet(outside, macOf(byte(g)), 0x88b5, make([]byte, 1486))
				ended := make(chan struct{})
				t.Cleanup(func() { <-ended })
				go func() {
					defer close(ended)
					for {
						select {
						case <-stop:
							return
						default:
							_, _ = unix.Write(socket.fd, frame) // what finds no room is lost
						}
					}
				}()
			}
			l.sent(t, speed*1e6/8/2) // what passes at once
			const tries = 5          // a guest that gets no processor meanwhile sends less than it may
			for n := 1; !l.sharedAs(t, speed*1e6/8, c.part); n++ {
				if n == tries {
					t.Fatal("no guest gets less of the link than it is to have: not so, each time")
				}
			}
		})
	}
}

// sharedAs reports whether each guest had its part, at the least, of so many bytes.
func (l *sharedLab) sharedAs(t *testing.T, bytes int, part []float64) bool {
	t.Helper()
	began := time.Now()
	sent := l.sent(t, bytes)
	took := time.Since(began)
	total := 0
	for _, n := range sent {
		total += n
	}
	t.Logf("%.1f Mbit/s", float64(total)*8e-6/took.Seconds())
	kept := true
	for g, want := range part {
		is := float64(sent[vswitch.MAC(macOf(byte(g+1)))]) / float64(total)
		t.Logf("guest %d has %.1f %%, of %.1f %%", g+1, 100*is, 100*want)
		kept = kept && is >= 0.95*want
	}
	return kept
}

// A link that comes up again, at another speed perhaps, and classes that somebody changes are
// told; looking at them is not.
func TestSharesAreWatched(t *testing.T) {
	l := newSharedLab(t, 0, 1000)
	w := watch(t, l.ns)
	carry := func(on int) {
		t.Helper()
		if err := unix.IoctlSetPointerInt(int(l.file.Fd()), unix.TUNSETCARRIER, on); err != nil {
			t.Fatal(err)
		}
	}
	carry(0)
	without := w.await(NetdevChanged, uplinkName)
	l.runAt(t, 100)
	carry(1)
	if with := w.await(NetdevChanged, uplinkName); with.Print == without.Print {
		t.Error("with a link and without it, it is the same")
	}
	l.runAt(t, 1000) // without another link
	w.await(SpeedChanged, uplinkName)
	l.reach(t, weights(1, 30))
	fence := func(n int) { // what has been told before is over
		t.Helper()
		name := fmt.Sprintf("fence%d", n)
		sh(t, l.host, "ip link add "+name+" type bridge")
		w.await(NetdevChanged, name)
	}
	fence(1)
	l.observe(t, weights(1, 30))
	sh(t, l.host, "ip link add fence2 type bridge")
	for e := (<-w.events); e.Netdev != "fence2"; e = <-w.events {
		t.Errorf("looking is told: %+v", e)
	}
	for i, harm := range []string{"tc class change dev UP classid 5043:10 htb rate 1mbit", "tc filter del dev UP parent 5043:", "tc qdisc del dev UP root"} {
		fence(3 + i)
		sh(t, l.host, strings.ReplaceAll(harm, "UP", uplinkName))
		w.await(QueueChanged, uplinkName)
	}
}
