package libvirt_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/libvirt/machine"
)

// start begins to move the machine, slowly, and returns when memory moves.
func (st *street) start(t *testing.T) (moved <-chan error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- st.migrate(st.a, st.b, "--bandwidth", "1") }()
	for {
		select {
		case err := <-done:
			t.Fatalf("it is over before memory moves: %v", err)
		default:
		}
		// There is an event, but virsh does not say since when it listens.
		info, err := st.a.Virsh("domjobinfo", "vm1")
		if err == nil && strings.Contains(info, "Memory processed") && !strings.Contains(info, "Memory processed: 0.000 B") {
			return done
		}
	}
}

// launches is how many hypervisors have been started for the machine on a site.
func (s *site) launches() int {
	s.t.Helper()
	var log []byte
	err := s.Do(func() (err error) { log, err = os.ReadFile("/var/log/libvirt/qemu/vm1.log"); return err })
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	return strings.Count(string(log), "starting up")
}

// said is what was heard outside from the address of the machine, in order: on which
// side, and what.
type said struct {
	mu  sync.Mutex
	all []string
}

func (x *said) hear(netdev string, frame []byte) {
	if len(frame) < 14 || net.HardwareAddr(frame[6:12]).String() != mac1 || !strings.HasPrefix(netdev, "to-") {
		return
	}
	what := fmt.Sprintf("%#04x", binary.BigEndian.Uint16(frame[12:]))
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_RARP:
		what = "announcement"
	case unix.ETH_P_IP:
		what = "answer"
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.all = append(x.all, strings.TrimPrefix(netdev, "to-")+": "+what)
}

// by is the part of it that was said on a side.
func (x *said) by(side string) (part []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, s := range x.all {
		if strings.HasPrefix(s, side+": ") {
			part = append(part, s)
		}
	}
	return part
}

// TestMigrationHeardOutside: where the machine goes to, nothing is heard of it before it runs
// there, and then at once that it does; where it came from, nothing afterwards.
func TestMigrationHeardOutside(t *testing.T) {
	eachVersion(t, func(t *testing.T, v machine.Version) {
		st := newStreet(t, v)
		pulse, err := st.outside.PulseTo(netip.MustParseAddrPort("10.1.0.1:7"), 10*time.Millisecond)
		ok(t, err)
		defer func() { ok(t, pulse.Close()) }()
		x := &said{}
		end, err := st.outside.Overhear(x.hear)
		ok(t, err)
		moved := st.start(t)
		before := len(x.by("a"))
		_, err = pulse.During(func() {}, patience) // it goes on answering
		ok(t, err)
		if p := st.b.portOf(mac1); p.VM.Stage != vswitch.VMIncoming || p.Netdev == "" {
			t.Errorf("port on b: %+v", p)
		}
		if now := x.by("b"); len(now) > 0 || len(x.by("a")) <= before {
			t.Errorf("while memory moves b has said %v, and a %d frames", now, len(x.by("a"))-before)
		}
		_, err = pulse.During(func() {
			st.a.virsh("migrate-setspeed", "vm1", "10000")
			ok(t, <-moved)
		}, patience)
		ok(t, err)
		ok(t, end())
		b := slices.IndexFunc(x.all, func(s string) bool { return strings.HasPrefix(s, "b: ") })
		if b < 0 {
			t.Fatal("b has said nothing")
		}
		if after := slices.DeleteFunc(slices.Clone(x.all[b:]), func(s string) bool { return strings.HasPrefix(s, "b: ") }); len(after) > 0 {
			t.Errorf("a goes on speaking for it: %v", after)
		}
		announced, answered := slices.Index(x.all, "b: announcement"), slices.Index(x.all, "b: answer")
		if announced < 0 || answered < announced {
			t.Errorf("b: %v", x.by("b"))
		}
		t.Logf("b, after %d frames of a: %v", b, x.all[b:min(b+5, len(x.all))])
	})
}

// TestMigrationCutOff: a migration that is cut off at either end leaves the machine and its
// port where they were, and nothing at the other end.
func TestMigrationCutOff(t *testing.T) {
	eachVersion(t, func(t *testing.T, v machine.Version) {
		st := newStreet(t, v)
		before := fmt.Sprint(st.a.portOf(mac1))
		for _, x := range []struct {
			what string
			cut  func()
		}{
			{"the hypervisor there is killed", func() { ok(t, syscall.Kill(st.b.pidOf(st.vm), syscall.SIGKILL)) }},
			{"libvirtd there is killed", func() {
				ok(t, st.b.Kill())
				st.a.virsh("migrate-setspeed", "vm1", "10000") // it goes on until all is there and nobody takes it
			}},
			{"libvirtd here is killed", func() { ok(t, st.a.Kill()) }},
		} {
			moved := st.start(t)
			x.cut()
			if err := <-moved; err == nil {
				t.Errorf("%s: it came all the same", x.what)
			}
			for _, s := range []*site{st.a, st.b} {
				if s.Daemon == nil {
					n := s.daemon.Lines()
					ok(t, s.Start())
					s.followed(n)
				}
			}
			st.stays(t, x.what)
			if after := fmt.Sprint(st.a.portOf(mac1)); after != before {
				t.Errorf("%s: the port was %s and is %s", x.what, before, after)
			}
		}
		ok(t, st.migrate(st.a, st.b))
		st.a.empty("gone")
		pings(t, st.outside, "10.1.0.1")
	})
}
