package engine_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// deadlyVF is a NIC with one VF, vf0, whose plugin outlives the process that asks it. That can
// be killed before it has asked, and before it has the answer.
type deadlyVF struct {
	kernel *kernel.Fake
	holder vswitch.OffloadGrant
	mac    vswitch.MAC
	dieIn  int // points from now
}

func (v *deadlyVF) point() {
	if v.dieIn--; v.dieIn == 0 {
		runtime.Goexit()
	}
}

func (v *deadlyVF) Look(context.Context) vswitch.OffloadInventory {
	nic := vswitch.OffloadNIC{Plugin: "card", ID: "card0", Netdev: "nic0", Link: true}
	nic.Capabilities.SRIOV = vswitch.Capability{Capacity: 1}
	return vswitch.OffloadInventory{NICs: []vswitch.OffloadNIC{nic}}
}

func (v *deadlyVF) Ensure(_ context.Context, _ string, r vswitch.OffloadRequest) (vswitch.OffloadGrant, error) {
	v.point()
	defer v.point()
	switch {
	case v.holder.VF == nil:
		v.kernel.AddNetdev(kernel.Netdev{Name: "vf0", MAC: r.MAC, MTU: r.MTU, Ethernet: true, Carrier: true})
		v.holder = vswitch.OffloadGrant{OffloadRef: r.OffloadRef, NIC: r.NIC, Amount: 1, VF: &vswitch.OffloadVF{Netdev: "vf0"}}
	case v.holder.OffloadRef != r.OffloadRef:
		return vswitch.OffloadGrant{}, &vswitch.Denied{Reason: vswitch.NoFreeVF}
	}
	v.holder.Generation, v.mac = r.Generation, r.MAC
	return v.holder, nil
}

func (v *deadlyVF) Release(ctx context.Context, _ string, ref vswitch.OffloadRef, _ uint64) error {
	v.point()
	defer v.point()
	if v.holder.OffloadRef == ref {
		all, err := v.kernel.Netdevs(ctx)
		if err != nil {
			return err
		}
		for _, n := range all { // whatever it is called by now
			if n.MAC == v.mac {
				v.kernel.RemoveNetdev(n.Name)
			}
		}
		v.holder = vswitch.OffloadGrant{}
	}
	return nil
}

func (v *deadlyVF) Grants(context.Context, string) (all []vswitch.OffloadGrant, err error) {
	if v.holder.VF != nil {
		all = append(all, v.holder)
	}
	return all, nil
}

func (v *deadlyVF) Watch(ctx context.Context, changed func(string)) {
	changed("card")
	<-ctx.Done()
}

// vfLab is a lab whose NIC has a VF.
type vfLab struct {
	*lab
	card *deadlyVF
}

func newVFLab(t *testing.T) vfLab {
	l := vfLab{lab: newLab(t)}
	l.card = &deadlyVF{kernel: l.kernel}
	l.open()
	return l
}

func (l *vfLab) open() {
	l.Engine = engine.New(engine.Config{Kernel: mortal{l.kernel}, Store: l.store(), HostRoot: withoutManagers, Hardware: l.card})
}

// resides has a patchbayd take back what no port has.
func (l *vfLab) resides() {
	l.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	taken := make(chan struct{})
	log := slog.New(whenSaid{"taken back", taken}) // with a record or, where that is lost, without
	ended := make(chan error, 1)
	go func() { ended <- l.Keep(ctx, log, func() {}) }()
	<-taken
	cancel()
	must(l.t, <-ended)
}

// whenSaid is a log that tells when a message that ends so comes first.
type whenSaid struct {
	end  string
	said chan struct{}
}

func (w whenSaid) Enabled(context.Context, slog.Level) bool { return true }
func (w whenSaid) WithAttrs([]slog.Attr) slog.Handler       { return w }
func (w whenSaid) WithGroup(string) slog.Handler            { return w }
func (w whenSaid) Handle(_ context.Context, r slog.Record) error {
	if strings.HasSuffix(r.Message, w.end) {
		select {
		case <-w.said:
		default:
			close(w.said)
		}
	}
	return nil
}

// Wherever ADD or DEL of a container on a VF, with a standby or without, is killed: ADD again
// completes it, DEL leaves nothing, also where all records are lost, and the next one has the VF.
func TestVFSurvivesKills(t *testing.T) {
	t.Parallel()
	on, require := true, vswitch.OffloadRequire
	for name, wish := range map[string]vswitch.SRIOVChange{"VF": {Mode: &require}, "standby": {Mode: &require, Failover: &on}} {
		add := func(l vfLab) error { return l.attachVF(0, wish) }
		del := func(l vfLab) error { return l.Detach(context.Background(), owner(0)) }
		for _, c := range []struct {
			name              string
			stage, verb, then func(vfLab) error
		}{
			{"ADD, ADD", func(vfLab) error { return nil }, add, add},
			{"ADD, DEL", func(vfLab) error { return nil }, add, del},
			{"DEL, DEL", add, del, del},
			{"DEL, records lost, DEL", add, del, func(l vfLab) error { l.lose(); return del(l) }},
		} {
			t.Run(name+": "+c.name, func(t *testing.T) {
				for n, died := 1, true; died && !t.Failed(); n++ {
					died = false
					for where, arm := range map[string]func(vfLab){
						"kernel": func(l vfLab) { l.kernel.DieAt(n) },
						"plugin": func(l vfLab) { l.card.dieIn = n },
					} {
						l := newVFLab(t)
						pristine := l.kernel.String()
						l.mustAdd(wanWithVFs())
						must(t, c.stage(l))
						arm(l)
						died = dies(func() error { return c.verb(l) }) || died
						l.kernel.Revive()
						l.card.dieIn = 0
						l.open()
						must(t, c.then(l))
						l.wantVFToBeFree(wish)
						if l.wantClean(pristine); t.Failed() {
							t.Errorf("killed at %s %d", where, n)
						}
					}
					if !died && n < 3 {
						t.Errorf("it has %d steps", n-1)
					}
				}
			})
		}
	}
}

func wanWithVFs() vswitch.Switch { return vswitch.Switch{Name: "wan", Uplink: "nic0", SRIOV: true} }

func (l *vfLab) attachVF(i int, wish vswitch.SRIOVChange) error {
	a, err := l.Attach(context.Background(), engine.AttachRequest{
		Owner: owner(i), Switch: "wan", Policy: vswitch.PolicyChange{Offload: vswitch.OffloadChange{SRIOV: wish}},
		Addresses: []vswitch.Address{{Prefix: netip.MustParsePrefix("10.0.0.5/24")}},
	})
	if err != nil {
		return err
	}
	if check, err := l.Check(context.Background(), owner(i)); a.Port.VF == "" || err != nil || len(check.Steps) > 0 {
		l.t.Errorf("it has VF %q, and CHECK says %v, %v", a.Port.VF, check.Steps, err)
	}
	return nil
}

// lose loses all records.
func (l *vfLab) lose() {
	for _, dir := range []string{l.dirs.State, l.dirs.Run} {
		must(l.t, os.RemoveAll(dir))
		must(l.t, os.Mkdir(dir, 0o700))
	}
	l.open()
}

// wantVFToBeFree fails unless another container can have the VF, and leaves nothing.
func (l *vfLab) wantVFToBeFree(wish vswitch.SRIOVChange) {
	l.t.Helper()
	must(l.t, l.Detach(context.Background(), owner(0)))
	for i := range 2 {
		if where := strings.Split(l.kernel.String(), "netns "+netns(i))[1]; strings.Contains(strings.Split(where, "netns ")[0], "eth0") {
			l.t.Errorf("container %d has something left:\n%s", i, where)
		}
	}
	l.mustAdd(wanWithVFs())
	if l.card.holder.VF != nil {
		l.resides()
	}
	must(l.t, l.attachVF(1, wish))
	must(l.t, l.Detach(context.Background(), owner(1)))
	must(l.t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "wan"}))
	if l.card.holder.VF != nil {
		l.t.Errorf("the plugin holds %+v", l.card.holder)
	}
}
