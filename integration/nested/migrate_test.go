package nested_test

import (
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
	"github.com/patchbay-net/patchbay/integration/libvirt/machine"
)

// longest is for how long the virtual machine may not be heard: who leaves the NIC alone is not
// heard for 25 s.
const longest = 3 * time.Second

// beat is the time between two pings.
const beat = 200 * time.Millisecond

// TestVFMigration: a virtual machine that goes by a VF fails to move to another host, and goes by
// its VF again where it is; then it moves, and goes by a VF there.
func TestVFMigration(t *testing.T) {
	if os.Getenv(guest.Env) == "" {
		t.Skip("`make test-migration` runs it, in a guest")
	}
	begun := time.Now()
	st := newStreet(t)
	d, mac := st.a.boot("vm1")
	t.Logf("it has come up after %v", time.Since(begun).Round(time.Second))
	ask(t, d, "await", "igbvf", patience.String())
	ask(t, d, "address", mac, guestAddr+"/24")
	m := &moving{t: t, street: st, d: d, mac: mac, pulse: st.pulse(t)}
	m.goesByVF(st.a)
	lines := st.a.daemon.Lines()
	m.step("it fails to move", func() {
		moved := make(chan error, 1)
		go func() { moved <- st.a.migrate(d.Name, st.b, "--bandwidth", "1") }()
		m.letsGo(lines, moved)
		pid, err := st.b.PID(d)
		ok(t, err)
		ok(t, syscall.Kill(pid, syscall.SIGKILL))
		if err := <-moved; err == nil {
			t.Fatal("it came all the same")
		}
	})
	m.goesByVF(st.a)
	m.isHeard(st.a, lines)
	if ports := st.b.guests(); len(ports) > 0 {
		t.Errorf("of a machine that has not come b has %+v", ports)
	}
	lines, there := st.a.daemon.Lines(), st.b.daemon.Lines()
	m.step("it moves", func() {
		moved := make(chan error, 1)
		go func() { moved <- st.a.migrate(d.Name, st.b) }()
		m.letsGo(lines, moved)
		ok(t, <-moved)
	})
	m.goesByVF(st.b)
	m.isHeard(st.b, there)
	if left := st.a.vfMAC(); left == mac {
		t.Errorf("a still hands its VF what is for %s", left)
	}
	if ports := st.a.guests(); len(ports) > 0 {
		t.Errorf("of a machine that has gone a has %+v", ports)
	}
}

// moving is a virtual machine that is spoken to while it moves.
type moving struct {
	*street
	t     *testing.T
	d     *machine.Domain
	mac   string
	pulse *host.Pulse
}

// step carries something out, until the machine is heard again and has its VF, and fails the test
// if it was not heard for too long.
func (m *moving) step(what string, do func()) {
	m.t.Helper()
	begun := time.Now()
	var took time.Duration
	out, err := m.pulse.During(func() {
		do()
		took = time.Since(begun)
		ask(m.t, m.d, "await", "igbvf", patience.String(), "up")
	}, patience)
	ok(m.t, err)
	m.t.Logf("| %s | in %.1f s, with its VF after %.1f s | lost the pings of %d ms | not heard for %d ms |",
		what, took.Seconds(), time.Since(begun).Seconds(), out.Lost*int(beat.Milliseconds()), out.Silence.Milliseconds())
	if out.Silence > longest {
		m.t.Errorf("%s: it is not heard for %v", what, out.Silence)
	}
}

// letsGo waits until the machine has let go of its VF, and fails unless the NIC knows. While
// memory moves the machine cannot be asked.
func (m *moving) letsGo(lines int, moved <-chan error) {
	m.t.Helper()
	m.await(lines, moved, "a VF is away")
	if now := m.a.vfMAC(); now == m.mac {
		m.t.Errorf("the NIC holds %s for a VF that is away", now)
	}
}

// await waits for a line in the log of a's patchbayd; a migration that is over before is a failure.
func (m *moving) await(lines int, moved <-chan error, words ...string) {
	m.t.Helper()
	logged := make(chan error, 1)
	go func() {
		_, err := m.a.daemon.Await(lines, patience, words...)
		logged <- err
	}()
	select {
	case err := <-logged:
		ok(m.t, err)
	case err := <-moved:
		m.t.Fatalf("it is over before the VF is away: %v", err)
	}
}

// goesByVF fails the test unless the machine is on a site and what it hears and says goes by its VF.
func (m *moving) goesByVF(s *site) {
	m.t.Helper()
	ask(m.t, m.d, "await", "igbvf", patience.String(), "up")
	if links := ask(m.t, m.d, "links"); strings.Count(links, m.mac) != 3 {
		m.t.Fatalf("no team of a port and a VF:\n%s", links)
	}
	if now := s.vfMAC(); now != m.mac {
		m.t.Errorf("the VF has the address %s, and the machine %s", now, m.mac)
	}
	before := counts(m.t, m.d)
	const pings = 5
	for range pings {
		ask(m.t, m.d, "ping", outsideAddr, patience.String())
	}
	after := counts(m.t, m.d)
	if after.in-before.in < pings || after.out-before.out < pings {
		m.t.Errorf("of %d pings the VF has carried: %+v before, %+v after", pings, before, after)
	}
	ok(m.t, s.near.Ping(netip.MustParseAddr(guestAddr), patience))
	ports := s.guests()
	if len(ports) != 1 || ports[0].VM.Stage != vswitch.VMActive || ports[0].VM.VFAway != "" {
		m.t.Errorf("ports: %+v", ports)
	}
}

// isHeard fails the test unless a site has heard the machine by its VF, and sends it nothing by its port any more.
func (m *moving) isHeard(s *site, lines int) {
	m.t.Helper()
	_, err := s.daemon.Await(lines, patience, "a VM goes by its VF", "heard=true")
	ok(m.t, err)
	if ports := s.guests(); len(ports) != 1 || ports[0].VM.VFTurn != "" {
		m.t.Errorf("ports: %+v", ports)
	}
	ok(m.t, s.near.Ping(netip.MustParseAddr(guestAddr), patience))
}
