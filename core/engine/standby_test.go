package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// standbyTeam is nic1 and nic2 with nic3 standing by.
func standbyTeam() vswitch.Team {
	t := activeActive("nic1", "nic2", "nic3")
	t.Standby = "nic3"
	return t
}

const (
	standsBy = "nic3: 52:54:00:00:00:04 mtu 1500 up\n    sysctl ipv4/arp_ignore = 8\n"
	standsIn = "nic3: 52:54:00:00:00:02 mtu 1500 up master team0"
)

func TestStandbyFromMakingToDeleting(t *testing.T) {
	ctx := context.Background()
	l := teamLab(t)
	pristine := l.kernel.String()
	s := l.mustTeam(standbyTeam())
	l.mustAdd(wanOn("team0"))
	l.wantKernel(standsBy, "at nic1 nic2 nic3,", "designated nic1\n  mute { nic2, nic3 }")
	if s.StandsIn != "" || len(s.State.Members) != 3 || !s.State.Members[2].Held || !s.State.Members[2].Link || s.State.Members[2].InUse {
		t.Errorf("a standby that stands by is shown as %+v", s)
	}
	l.wantSound()
	x, err := l.Explain(ctx, engine.ExplainRequest{Name: "team0"})
	must(t, err)
	commands := strings.Join(x.Parts[0].Commands, "\n")
	for _, want := range []string{"ip link set nic2 master team0", "ip link set nic3 nomaster up", "sysctl -w net.ipv4.conf.nic3.arp_ignore=8 net.ipv6.conf.nic3.disable_ipv6=1"} {
		if !strings.Contains(commands, want) {
			t.Errorf("no %q in:\n%s", want, commands)
		}
	}
	// An active member becomes the standby, and no member is.
	for _, c := range []struct{ standby, held, in string }{
		{"nic2", "nic2: 52:54:00:00:00:03 mtu 1500 up\n    sysctl", standsIn + "\n"},
		{"", "nic2: 52:54:00:00:00:02 mtu 1500 up master team0\n", standsIn + "\n"},
	} {
		_, err := l.SetTeam(ctx, "team0", engine.TeamChange{Standby: &c.standby})
		must(t, err)
		l.wantKernel(c.held, c.in)
		l.wantSound()
	}
	// The team has the address of nic1, which two would have then.
	_, err = l.SetTeam(ctx, "team0", engine.TeamChange{Standby: ptr("nic1")})
	wantKind(t, err, vswitch.TeamStandby)
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "wan"}))
	must(t, l.DeleteTeam(ctx, "team0", false))
	l.wantClean(pristine)
	// A new team takes another address, whatever the order.
	first := standbyTeam()
	first.Standby = "nic1"
	l.mustTeam(first)
	l.wantKernel("team0: bond 52:54:00:00:00:03", "nic1: 52:54:00:00:00:02 mtu 1500 up\n    sysctl")
	must(t, l.DeleteTeam(ctx, "team0", false))
	l.wantClean(pristine)
}

// TestStandbyWasDown comes up to stand by, and is down again afterwards.
func TestStandbyWasDown(t *testing.T) {
	ctx := context.Background()
	l := teamLab(t)
	l.kernel.SetNetdevDown("", "nic3")
	pristine := l.kernel.String()
	l.mustTeam(standbyTeam())
	l.wantKernel(standsBy)
	l.kernel.SetNetdevDown("", "nic3")
	if s, err := l.Status(ctx); err != nil || !slices.ContainsFunc(s.Problems, func(p engine.Problem) bool { return p.Kind == vswitch.Drifted }) {
		t.Errorf("nobody sees that the standby is down: %+v, %v", s.Problems, err)
	}
	l.mustTeam(standbyTeam())
	l.wantKernel(standsBy)
	_, err := l.SetTeam(ctx, "team0", engine.TeamChange{Members: ptr([]string{"nic1", "nic2"})})
	must(t, err)
	l.wantKernel("nic3: 52:54:00:00:00:04 mtu 1500 down\n")
	must(t, l.DeleteTeam(ctx, "team0", false))
	l.wantClean(pristine)
}

// TestStandbyTakesOver loses members and gets them back while patchbayd runs.
func TestStandbyTakesOver(t *testing.T) {
	ctx := context.Background()
	l := teamLab(t)
	l.mustTeam(standbyTeam())
	l.mustAdd(wanOn("team0"))
	macs := l.guestsOn()
	k := l.keep()
	for _, at := range []struct {
		nic        string
		link       bool
		says, what string
		carry      []string
		designated string
		standsIn   string
	}{
		{"nic1", false, "to=nic2,nic3", "standby nic3 took over for nic1", []string{"nic2", "nic3"}, "nic2", "nic1 has no link"},
		{"nic2", false, "to=nic3", "nic2 lost its link", []string{"nic3"}, "nic3", "nic1 has no link, nic2 has no link"},
		{"nic1", true, "to=nic1,nic3", "nic1 has its link back", []string{"nic1", "nic3"}, "nic3", "nic2 has no link"},
		{"nic3", false, "to=nic1", "nic3 lost its link", []string{"nic1"}, "nic1", "nic2 has no link"},
		{"nic3", true, "to=nic1,nic3", "standby nic3 took over for nic2", []string{"nic1", "nic3"}, "nic1", "nic2 has no link"},
		{"nic2", true, "to=nic1,nic2", "standby nic3 stands by again", []string{"nic1", "nic2"}, "nic1", ""},
		{"nic3", false, "", "", []string{"nic1", "nic2"}, "nic1", ""},
		{"nic2", false, "", "the standby takes over", []string{"nic1"}, "nic1", "nic2 has no link"},
	} {
		before, _ := k.logged()
		l.kernel.SetCarrier(at.nic, at.link)
		if at.what != "" {
			k.await(before, "team=team0", at.says, at.what)
		}
		s, err := l.Team(ctx, "team0")
		must(t, err)
		if diff := cmp.Diff(at.carry, carry(s)); diff != "" || s.StandsIn != at.standsIn {
			t.Fatalf("link of %s %v: it stands in since %q, and not %q; those who carry are otherwise (-want +got):\n%s", at.nic, at.link, s.StandsIn, at.standsIn, diff)
		}
		l.wantKernel("designated " + at.designated + "\n")
		if at.says != "" {
			for i, mac := range macs {
				vlan := map[int]int{2: 7}[i]
				in := inOrder(s)
				if want, got := in[hashOf(mac, vlan)%len(in)], l.kernel.Heard(mac, vlan); want != got {
					t.Errorf("link of %s %v: guest %d is on %s, and heard of by %s", at.nic, at.link, i, want, got)
				}
			}
		}
	}
	if text, _ := k.logged(); strings.Contains(text, "repaired") || strings.Contains(text, "WARN") {
		t.Errorf("the standby was taken for drift:\n%s", text)
	}
}

// carry are the members that carry, by name; inOrder are they in the order in which they
// joined.
func carry(s engine.TeamStatus) []string { return slices.Sorted(slices.Values(inOrder(s))) }

func inOrder(s engine.TeamStatus) (names []string) {
	for _, m := range s.State.Members {
		if m.InUse {
			names = append(names, m.Name)
		}
	}
	return names
}

// TestStandbyWithoutPatchbayd waits for a verb, and says so.
func TestStandbyWithoutPatchbayd(t *testing.T) {
	ctx := context.Background()
	l := teamLab(t)
	l.mustTeam(standbyTeam())
	l.mustAdd(wanOn("team0"))
	macs := l.guestsOn()
	says := func(words ...string) {
		t.Helper()
		s, err := l.Team(ctx, "team0")
		must(t, err)
		for _, w := range words {
			if !slices.ContainsFunc(s.Degraded, func(d string) bool { return strings.Contains(d, w) }) {
				t.Errorf("no %q in %q", w, s.Degraded)
			}
		}
	}
	says("only while patchbayd runs")
	if d, err := l.Doctor(ctx, engine.DoctorRequest{}); err != nil || !slices.ContainsFunc(d.Findings, func(f engine.Finding) bool { return f.Check == "standby" && f.Severity == engine.Warning }) {
		t.Errorf("doctor finds %+v, %v", d.Findings, err)
	}
	exported, err := l.Export(ctx, engine.ExportRequest{})
	must(t, err)
	verbs := []func(){
		func() { _, err := l.Apply(ctx, engine.ApplyRequest{Config: exported.Config}); must(t, err) },
		func() { l.mustAdd(wanOn("team0")) },
		func() { l.mustTeam(standbyTeam()) },
		func() { _, err := l.Restore(ctx, engine.RestoreRequest{}); must(t, err) },
		func() { _, err := l.SetTeam(ctx, "team0", engine.TeamChange{Monitor: ptr(50)}); must(t, err) },
		func() { _, err := l.SetTeam(ctx, "team0", engine.TeamChange{Monitor: ptr(100)}); must(t, err) },
	}
	for _, verb := range verbs {
		l.kernel.SetCarrier("nic1", false)
		l.kernel.SetCarrier("nic2", false)
		says("standby nic3 has not taken over")
		verb()
		l.wantKernel(standsIn, "designated nic3")
		for _, mac := range macs[:2] {
			if got := l.kernel.Heard(mac, 0); got != "nic3" {
				t.Errorf("%s is heard of by %q", mac, got)
			}
		}
		l.kernel.SetCarrier("nic1", true)
		l.kernel.SetCarrier("nic2", true)
		says("still among the others")
		verb()
		l.wantKernel(standsBy, "designated nic1")
	}
}

// TestStandbyTakenByAStranger comes back from whoever has it, and stays in no bond that
// somebody puts it into.
func TestStandbyTakenByAStranger(t *testing.T) {
	l := teamLab(t)
	l.mustTeam(standbyTeam())
	l.mustAdd(wanOn("team0"))
	k := l.keep()
	before, _ := k.logged()
	must(t, l.kernel.Apply(context.Background(), []plan.Step{
		plan.TakeDown{Name: "nic3"}, plan.AddMember{Bond: "team0", Member: plan.Member{Name: "nic3"}},
	}))
	k.await(before, "failover", "standby nic3 stands by again")
	k.await(before, "the standby stands by", "nic3")
	l.wantKernel(standsBy)
	before, _ = k.logged()
	l.kernel.SetNetdevDown("", "nic3")
	k.await(before, "repaired", "lacked its standby nic3")
	l.wantKernel(standsBy)
	// It is nobody else's either.
	_, err := l.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: vswitch.Switch{Name: "lan", Uplink: "nic3"}})
	wantKind(t, err, vswitch.UplinkInUse)
	_, err = l.AddTeam(context.Background(), vswitch.Team{Name: "team1", Members: []string{"nic3"}})
	wantKind(t, err, vswitch.UplinkInUse)
	_, err = l.Attach(context.Background(), engine.AttachRequest{Owner: owner(5), Switch: "wan", Netdev: "nic3"})
	wantKind(t, err, vswitch.InUse)
}

// TestStandbyExported applies what was exported, while it stands by and while it stands in.
func TestStandbyExported(t *testing.T) {
	ctx := context.Background()
	l := teamLab(t)
	config := vswitch.Config{Version: vswitch.ConfigVersion, Teams: []vswitch.Team{standbyTeam()}, Switches: []vswitch.Switch{wanOn("team0")}}
	_, err := l.Apply(ctx, engine.ApplyRequest{Config: config})
	must(t, err)
	l.wantKernel(standsBy)
	for _, want := range []string{standsBy, standsIn} {
		out, err := l.Export(ctx, engine.ExportRequest{})
		must(t, err)
		if len(out.Config.Teams) != 1 || out.Config.Teams[0].Standby != "nic3" {
			t.Errorf("exported: %+v", out.Config.Teams)
		}
		l.wantSame(engine.ApplyRequest{Config: out.Config, Prune: true})
		l.wantKernel(want)
		l.kernel.SetCarrier("nic1", false)
		l.mustTeam(standbyTeam())
	}
}

// TestStandbyKilled kills patchbayd before each step of a takeover and of the way back; the
// next one ends it, whatever the links have become.
func TestStandbyKilled(t *testing.T) {
	t.Parallel()
	for _, leaves := range []bool{false, true} {
		for n := 1; n <= 4; n++ {
			for _, link := range []bool{false, true} {
				t.Run(fmt.Sprintf("leaves %v step %d link %v", leaves, n, link), func(t *testing.T) {
					l := teamLab(t)
					l.mustTeam(standbyTeam())
					l.mustAdd(wanOn("team0"))
					whole := l.kernel.String()
					l.kernel.SetCarrier("nic1", false)
					if leaves {
						l.mustTeam(standbyTeam())
						l.kernel.SetCarrier("nic1", true)
					}
					l.kernel.DieAt(n)
					dies(func() error { _, err := l.AddTeam(context.Background(), standbyTeam()); return err })
					l.kernel.Revive()
					l.kernel.SetCarrier("nic1", link)
					want := standsBy
					if !link {
						want = standsIn
					}
					k := l.keep()
					l.awaitKernel(want)
					k.stop()
					l.kernel.SetCarrier("nic1", true)
					l.open()
					l.mustTeam(standbyTeam())
					if diff := cmp.Diff(undesignated(whole), undesignated(l.kernel.String())); diff != "" {
						t.Errorf("it is not as it was (-want +got):\n%s", diff)
					}
				})
			}
		}
	}
}

// TestStandbyForAMemberThatIsGone: a member that is not on the host is one without a link.
func TestStandbyForAMemberThatIsGone(t *testing.T) {
	l := teamLab(t)
	l.mustTeam(standbyTeam())
	l.mustAdd(wanOn("team0"))
	k := l.keep()
	before, _ := k.logged()
	l.kernel.RemoveNetdev("nic1")
	k.await(before, "failover", "took over")
	l.wantKernel(standsIn)
	before, _ = k.logged()
	l.kernel.AddNetdev(kernel.Netdev{Name: "nic1", MAC: vswitch.MAC{0x52, 0x54, 0, 0, 0, 2}, MTU: 1500, Ethernet: true, Up: true, Carrier: true})
	k.await(before, "failover", "stands by again")
	l.wantKernel(standsBy)
}

func address(p string) plan.Item { return kernel.AddressItem(netip.MustParsePrefix(p)) }

// TestStandbyThatIsPluggedIn is told to be silent when it is there, and missed before.
func TestStandbyThatIsPluggedIn(t *testing.T) {
	ctx := context.Background()
	l := teamLab(t)
	l.mustTeam(standbyTeam())
	k := l.keep()
	l.kernel.RemoveNetdev("nic3")
	s, err := l.Team(ctx, "team0")
	must(t, err)
	if diff := cmp.Diff([]string{"standby nic3 is not on the host"}, s.Degraded); diff != "" {
		t.Error(diff)
	}
	before, _ := k.logged()
	l.kernel.AddNetdev(kernel.Netdev{Name: "nic3", MAC: vswitch.MAC{0x52, 0x54, 0, 0, 0, 4}, MTU: 1500, MaxMTU: 1500, Ethernet: true, Up: true})
	k.await(before, "repaired", "team0")
	l.wantKernel(standsBy)
	l.mustAdd(vswitch.Switch{Name: "wan", Uplink: "team0", MTU: 9000})
	s, err = l.Team(ctx, "team0")
	must(t, err)
	if diff := cmp.Diff([]string{"standby nic3 has no link", "standby nic3 can do an MTU of 1500, and the team has 9000: it cannot take over"}, s.Degraded); diff != "" {
		t.Error(diff)
	}
}

// TestHostLivesOnTheStandby moves the host from the NIC that is to stand by, and back.
func TestHostLivesOnTheStandby(t *testing.T) {
	ctx := context.Background()
	l := teamLab(t)
	l.kernel.SetAddressing("nic3", plan.Addressing{Items: []plan.Item{address("192.0.2.9/24"), address("2001:db8::9/64")}})
	pristine := l.kernel.String()
	l.mustTeam(standbyTeam())
	l.wantKernel(standsBy, "sysctl ipv6/disable_ipv6 = 1", "team0: bond 52:54:00:00:00:02")
	l.mustAdd(wanOn("team0"))
	l.wantKernel(standsBy)
	a, err := l.kernel.Addressing(ctx, vswitch.HostPortName("wan"))
	must(t, err)
	if len(a.Items) != 2 || a.Settings["ipv6/disable_ipv6"] != "0" || a.Settings["ipv4/arp_ignore"] != "0" {
		t.Errorf("the host port has %+v", a)
	}
	l.wantSound()
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "wan"}))
	must(t, l.DeleteTeam(ctx, "team0", false))
	l.wantClean(pristine)
}

// TestStandbyOfATeamThatASwitchMade: what a killed process had written and the switch on
// the team has made is known when the team changes, also to a process that is killed again.
func TestStandbyOfATeamThatASwitchMade(t *testing.T) {
	ctx := context.Background()
	l := teamLab(t)
	pristine := l.kernel.String()
	killed := func(verb func() error) {
		t.Helper()
		l.kernel.DieAt(1)
		if !dies(verb) {
			t.Fatal("the process was not killed")
		}
		l.kernel.Revive()
		l.open()
	}
	killed(func() error { _, err := l.AddTeam(ctx, standbyTeam()); return err })
	l.mustAdd(wanOn("team0"))
	l.wantKernel(standsBy)
	killed(func() error { _, err := l.SetTeam(ctx, "team0", engine.TeamChange{Standby: ptr("")}); return err })
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "wan"}))
	must(t, l.DeleteTeam(ctx, "team0", false))
	l.wantClean(pristine)
}

// TestStandbyOfAFlappingMember changes places as often as the link does, and is not taken
// for somebody's who changes the team again and again.
func TestStandbyOfAFlappingMember(t *testing.T) {
	l := teamLab(t)
	l.mustTeam(standbyTeam())
	l.mustAdd(wanOn("team0"))
	k := l.keep()
	for range 12 {
		for _, link := range []bool{false, true} {
			before, _ := k.logged()
			l.kernel.SetCarrier("nic1", link)
			k.await(before, "failover", map[bool]string{false: "took over", true: "stands by again"}[link])
		}
	}
	l.wantKernel(standsBy)
	l.wantSound()
	if text, _ := k.logged(); strings.Contains(text, "again and again") {
		t.Errorf("the flapping was taken for a contest:\n%s", text)
	}
}

// A member without a link of which a killed process left it open whether it has one is missed
// as soon as it is up: that the standby has not taken over is said, and is no drift.
func TestStandbyThatHasNotTakenOverIsNoDrift(t *testing.T) {
	ctx := context.Background()
	late := false
	for n := 1; ; n++ {
		l := teamLab(t)
		l.kernel.SetCarrier("nic1", false)
		if !l.killed(n, func() error { _, err := l.AddTeam(ctx, standbyTeam()); return err }) {
			break
		}
		must(t, restored(l))
		s, err := l.Status(ctx)
		must(t, err)
		for _, p := range s.Problems {
			if p.Kind == vswitch.Drifted {
				t.Errorf("killed before step %d: %s", n, p.Message)
			}
			late = late || p.Kind == vswitch.TeamDegraded && strings.Contains(p.Message, "nic3 has not taken over")
		}
	}
	if !late {
		t.Error("no kill leaves it open")
	}
}

// A standby that waits for its turn while another process is at work keeps nobody waiting who
// wants patchbayd to end, and nothing is done afterwards.
func TestStandbyThatWaitsDoesNotHoldUpTheEnd(t *testing.T) {
	l := teamLab(t)
	l.mustTeam(standbyTeam())
	k := l.keep()
	unlock, err := l.store().LockSwitch("", store.Exclusive)
	must(t, err)
	before, _ := k.logged()
	l.kernel.SetCarrier("nic1", false)
	k.await(before, "failover") // the standby is asked for before that is told
	stopped := make(chan struct{})
	go func() { k.stop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(patience):
		t.Error("it does not end")
	}
	unlock()
	<-stopped
}

// A standby that could not change places is tried again later, and later still the next
// time, but not at each event until then.
func TestStandbyIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := teamLab(t)
		l.mustTeam(standbyTeam())
		k := &refusing{Fake: l.kernel}
		ctx, cancel := context.WithCancel(t.Context())
		var keeping sync.WaitGroup
		e, ready := l.engineOn(k), make(chan struct{})
		keeping.Go(func() { _ = e.Keep(ctx, slog.New(slog.DiscardHandler), func() { close(ready) }) })
		defer keeping.Wait()
		defer cancel()
		<-ready
		began := time.Now()
		l.kernel.SetCarrier("nic1", false)
		for range 5 {
			synctest.Wait()
			l.kernel.SetCarrier("nic2", false)
			synctest.Wait()
			l.kernel.SetCarrier("nic2", true)
		}
		synctest.Wait()
		<-time.After(10 * time.Second) // of the bubble's own clock
		synctest.Wait()
		var after []time.Duration
		for _, at := range k.tries {
			after = append(after, at.Sub(began).Round(time.Millisecond))
		}
		want := []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second}
		if diff := cmp.Diff(want, after); diff != "" {
			t.Errorf("tried after (-want +got):\n%s", diff)
		}
	})
}

// refusing puts no NIC into a bond, and notes when it was asked to.
type refusing struct {
	*kernel.Fake
	tries []time.Time
}

func (k *refusing) Apply(ctx context.Context, steps []plan.Step) error {
	for i, s := range steps {
		if _, joins := s.(plan.AddMember); joins {
			k.tries = append(k.tries, time.Now())
			return &kernel.StepError{Index: i, Step: s, Err: errBroken}
		}
	}
	return k.Fake.Apply(ctx, steps)
}

// awaitKernel waits until the kernel has something.
func (l *lab) awaitKernel(line string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	changed, watching := make(chan struct{}, 1), make(chan struct{})
	go func() {
		_ = l.kernel.Watch(ctx, func() { close(watching) }, func(kernel.Event) {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	}()
	<-watching
	for !strings.Contains(l.kernel.String(), line) {
		select {
		case <-changed:
		case <-ctx.Done():
			l.t.Fatalf("no %q in:\n%s", line, l.kernel)
		}
	}
}
