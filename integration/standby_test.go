package integration_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
)

// newStandby is twoSwitches with a third NIC of the team, eth2 at the second switch, which
// stands by.
func newStandby(t *testing.T) *twoSwitches {
	t.Helper()
	s := newPhysical(t)
	s.thirdNIC("--standby", "eth2")
	return s
}

// thirdNIC makes the team of three. What eth2 sends before that the physical switch does
// not hear.
func (s *twoSwitches) thirdNIC(args ...string) {
	s.t.Helper()
	ok(s.t, host.Cable(s.Netns, "eth2", s.physical, "uC"))
	s.keeps = append(s.keeps, "eth2")
	s.teamUp("eth0,eth1,eth2", args...)
	s.script(s.physical, "link set uC master swB")
	for _, vlan := range []string{"10", "20", "21"} {
		s.run(s.physical, "bridge", "vlan", "add", "dev", "uC", "vid", vlan)
	}
}

// standby does something to the links and waits until the standby has changed places and
// carries what it shall.
func (s *twoSwitches) standby(script, says string, carry ...string) {
	s.t.Helper()
	events, end, err := s.LinkEvents()
	ok(s.t, err)
	defer end()
	lines := s.daemon.Lines()
	s.script(s.physical, script)
	if says != "" {
		_, err = s.daemon.Await(lines, patience, says, "team=team0")
		ok(s.t, err)
	}
	for deadline := time.After(patience); ; {
		more := s.daemon.More()
		got := s.carrying()
		if slices.Equal(got, carry) && slices.Contains(carry, s.designated()) {
			return
		}
		select {
		case <-events:
		case <-more:
		case <-deadline:
			s.t.Fatalf("%s: %v carry, want %v; %s hears what is for all:\n%s", script, got, carry, s.designated(), s.daemon.Log())
		}
	}
}

func (s *twoSwitches) carrying() (names []string) {
	s.t.Helper()
	for _, m := range s.team("team0").State.Members {
		if m.InUse {
			names = append(names, m.Name)
		}
	}
	slices.Sort(names)
	return names
}

const takesOver, standsBy = "the standby takes over", "the standby stands by"

// TestStandbyEveryFrameOnce counts every frame while a standby stands by, stands in for one
// member and for both, and stands by again; and those that are sent while it changes
// places, of which some may be lost and none may be heard twice.
func TestStandbyEveryFrameOnce(t *testing.T) {
	guest.Needs(t, guest.Bonding, guest.VLANs, guest.Netdev)
	s := newStandby(t)
	s.startDaemon()
	s.guests()
	s.wantExact("standing by", s.floods())
	for i, at := range []struct {
		script, says string
		carry        []string
	}{
		{"link set uA down", takesOver, []string{"eth1", "eth2"}},
		{"link set uB down", "", []string{"eth2"}},
		{"link set uA up", "", []string{"eth0", "eth2"}},
		{"link set uB up", standsBy, []string{"eth0", "eth1"}},
		{"link set uC down\nlink set uB down", takesOver, []string{"eth0"}},
		{"link set uB up", standsBy, []string{"eth0", "eth1"}},
	} {
		s.neverTwice(fmt.Sprint("change ", i), func() { s.standby(at.script, at.says, at.carry...) })
		s.wantExact("after "+strings.ReplaceAll(at.script, "\n", ", "), s.floods())
	}
	if text := s.daemon.Log(); strings.Contains(text, "msg=repaired") {
		t.Errorf("the standby was taken for drift:\n%s", text)
	}
	// It is silent itself: nothing has come from its own address.
	if got := s.run(s.physical, "bridge", "fdb", "show", "br", "swB"); strings.Contains(got, s.heldMAC()) {
		t.Errorf("the physical switch has heard of the standby's own address:\n%s", got)
	}
}

// heldMAC is the standby's own address.
func (s *twoSwitches) heldMAC() string {
	s.t.Helper()
	for _, m := range s.team("team0").State.Members {
		if m.Held {
			return m.MAC.String()
		}
	}
	s.t.Fatal("no member stands by")
	return ""
}

// neverTwice sends broadcasts all the time that something is done.
func (s *twoSwitches) neverTwice(phase string, do func()) {
	s.t.Helper()
	before := make(map[string]map[string]int)
	for name, p := range s.points {
		before[name] = p.counted()
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	sent := 0
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for ; ; sent++ {
			for _, from := range []string{"hA", "hB", "u0"} {
				if err := s.points[from].send(fmt.Sprintf("meanwhile %s by %s, %d:", phase, from, sent), toAll, 0, 1); err != nil {
					done <- err
					return
				}
			}
			select {
			case <-stop:
				done <- nil
				return
			case <-tick.C:
			}
		}
	}()
	do()
	close(stop)
	ok(s.t, <-done)
	_, err := s.tap(s.physical, "swA").Hears("never", silence) // for what must not come
	ok(s.t, err)
	heard := 0
	for name, p := range s.points {
		for payload, n := range p.counted() {
			if !strings.HasPrefix(payload, "meanwhile ") || before[name][payload] == n {
				continue
			}
			heard++
			if n > 1 || strings.Contains(payload, "by "+name+",") {
				s.t.Errorf("%s heard %q %d times", name, payload, n)
			}
		}
	}
	s.t.Logf("%s: %d times three broadcasts meanwhile, heard %d times in all, none twice by anybody", phase, sent, heard)
}

// TestStandbyFailover measures what somebody outside misses of a guest who only answers,
// while members are lost and the standby stands in for them. Its log is in the table of
// docs/performance.md.
func TestStandbyFailover(t *testing.T) {
	guest.Needs(t, guest.Bonding, guest.VLANs, guest.Netdev)
	s := newPhysical(t)
	s.thirdNIC("--standby", "eth2", "--monitor", "100")
	s.startDaemon()
	n := s.network(fmt.Sprintf(spreadGuest, "net", "", "192.0.2.10"))
	c, r := s.attached(n, "a")
	pulse, err := s.hosts["B"].Pulse(c.Netns, netip.MustParseAddr(r.IPs[0].Address.IP.String()), 5*time.Millisecond)
	ok(t, err)
	s.outage(pulse, "before", func() { s.script(s.physical, "link show lo") })
	var lost, back host.Outage
	for side, carry := range map[string]string{"A": "eth1", "B": "eth0"} {
		lost = lost.Max(s.outage(pulse, "link "+side+" lost", func() { s.standby("link set u"+side+" down", takesOver, carry, "eth2") }))
		back = back.Max(s.outage(pulse, "link "+side+" back", func() { s.standby("link set u"+side+" up", standsBy, "eth0", "eth1") }))
	}
	all := s.outage(pulse, "both links lost", func() { s.standby("link set uA down\nlink set uB down", takesOver, "eth2") })
	again := s.outage(pulse, "both links back", func() { s.standby("link set uA up\nlink set uB up", standsBy, "eth0", "eth1") })
	t.Log("| | link lost | link back | both links lost | both links back |")
	t.Logf("| standby | %s | %s | %s | %s |", cell(lost), cell(back), cell(all), cell(again))
	ok(t, pulse.Close())
	ok(t, n.Del(c))
}

// awaitStandby waits until all others of a team carry and its standby stands by: a NIC that
// has just become a member has no link yet.
func (h *testHost) awaitStandby(team string) {
	h.t.Helper()
	events, end, err := h.LinkEvents()
	ok(h.t, err)
	defer end()
	for deadline := time.After(patience); ; {
		more := h.daemon.More()
		s := h.team(team)
		if s.StandsIn == "" && len(s.Degraded) == 0 {
			return
		}
		select {
		case <-events:
		case <-more:
		case <-deadline:
			h.t.Fatalf("the standby does not stand by: %+v\n%s", s, h.daemon.Log())
		}
	}
}

// TestStandbyKilled kills patchbayd before each step that follows from the loss of a
// member, and from its coming back; the next one ends it.
func TestStandbyKilled(t *testing.T) {
	guest.Needs(t, guest.Bonding, guest.VLANs, guest.Netdev)
	s := newStandby(t)
	if _, err := os.Stat(filepath.Join(s.Root, "bin/faults/patchbayd")); err != nil {
		t.Fatalf("%v; run `make build-faults`", err)
	}
	s.plug("u0", "", "192.0.2.10", 0)
	kills := 0
	carry := map[string][]string{"down": {"eth1", "eth2"}, "up": {"eth0", "eth1"}}
	for link, other := range map[string]string{"down": "up", "up": "down"} {
		s.startDaemon()
		s.standby("link set uA "+other, "", carry[other]...)
		ok(t, s.daemon.Kill())
		for n, died := 1, true; died; n++ {
			d, err := s.Patchbayd("faults/patchbayd", fmt.Sprintf("PATCHBAY_DIE_AT=%d", n))
			if err != nil {
				kills++
				continue // as early as that
			}
			s.script(s.physical, "link set uA "+link)
			if _, err = d.Await(0, patience, "the standby"); err != nil {
				kills++
			}
			died = err != nil
			ok(t, d.Kill())
			s.startDaemon()
			s.standby("link show lo", "", carry[link]...)
			s.wantUndrifted()
			s.standby("link set uA "+other, "the standby", carry[other]...)
			ok(t, s.daemon.Kill())
		}
	}
	if kills < 4 {
		t.Errorf("patchbayd was killed %d times only: the build has no faults", kills)
	}
	t.Logf("killed %d times", kills)
	s.daemon = nil
	s.script(s.physical, "link set uA up")
}
