package follow_test

import (
	"slices"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
	"github.com/patchbay-net/patchbay/libvirt-hook/follow"
)

// reserve is the hook's part of a start for a port of web01, and bind that for its tap.
func (l *lab) reserve(port string) {
	l.t.Helper()
	mac, _ := vswitch.ParseMAC(webMAC)
	if _, err := l.ReservePort(l.t.Context(), engine.ReservePortRequest{Owner: webOwner(port), Switch: "lan", MAC: mac}); err != nil {
		l.t.Error(err)
	}
}

func (l *lab) bind(port string) {
	l.t.Helper()
	if _, err := l.BindPort(l.t.Context(), engine.BindPortRequest{Owner: webOwner(port), Netdev: "vnet0", Alias: "ua-web"}); err != nil {
		l.t.Errorf("virsh start says: %v", err)
	}
}

func webOwner(port string) vswitch.Owner {
	return vswitch.Owner{Kind: vswitch.OwnerVM, ID: webUUID, Endpoint: port, Name: "web01"}
}

// TestStartsMeanwhile: a domain that a port was left over of starts while the port is about to
// go: the new one stays, and so does what is expected of it.
func TestStartsMeanwhile(t *testing.T) {
	const cutOff = "5b2f0f0e-7f3a-4f6b-9d1c-0c5c8f0f2b99" // the port of a start that was
	for name, meanwhile := range map[string]func(*lab){
		"it runs":         func(l *lab) { l.reserve(webPort); l.run(); l.bind(webPort) },
		"a hook was here": func(l *lab) { l.reserve(webPort) },
		"the next":        func(*lab) {},
	} {
		t.Run(name, func(t *testing.T) {
			tried(t, nothing, func(l *lab) {
				l.reserve(cutOff)
				l.told(follow.Event{Domain: webUUID}, func() {})
				l.pass(28 * time.Second)
				if err := l.ExpectDomain(t.Context(), engine.ExpectDomainRequest{Domain: vswitch.DomainRef{ID: webUUID}}); err != nil {
					t.Fatal(err)
				}
				l.libvirt.mu.Lock()
				l.libvirt.listed = func() { l.libvirt.listed = nil; meanwhile(l) } // it was asked for domains by then
				l.libvirt.mu.Unlock()
				l.pass(2 * time.Second)
				if slices.ContainsFunc(l.ports(), func(p vswitch.Port) bool { return p.Owner.Endpoint == cutOff }) {
					t.Error("what was left over is there still")
				}
				if !l.web.running {
					l.reserve(webPort)
					l.run()
					l.bind(webPort)
				}
				if all := l.ports(); len(all) != 1 || all[0].Netdev != "vnet0" || all[0].VM.Stage != vswitch.VMIncoming {
					t.Errorf("ports: %+v", all)
				}
			})
		})
	}
}

// TestDriverAbsent: the driver of a domain is not there any more, and another one is. The domain
// runs on and keeps its port, and a stopped one its address.
func TestDriverAbsent(t *testing.T) {
	absent := func(string, func(follow.Event), func()) (follow.Libvirt, error) { return nil, follow.ErrNoDriver }
	lose := func(l *lab) {
		l.stop()
		l.drivers = map[string]follow.Dial{"qemu:///system": absent, "lxc:///system": (&fakeLibvirt{}).dial}
		l.start()
		l.pass(10 * time.Minute)
		if held := l.holder(webMAC); held != "web01" {
			l.t.Errorf("its address is held for %q", held)
		}
	}
	t.Run("running", func(t *testing.T) {
		tried(t, (*lab).run, func(l *lab) { lose(l); l.wantBound() })
	})
	t.Run("stopped", func(t *testing.T) { tried(t, nothing, lose) })
	t.Run("stopped unseen", func(t *testing.T) {
		tried(t, (*lab).run, func(l *lab) {
			l.kernel.SetCarrier("vnet0", false) // QEMU has it open no more
			lose(l)
			l.wantNone()
		})
	})
}

// TestDaemonMissing: a driver whose daemon was never started keeps nothing of the other's, and one that
// was there may have the domain.
func TestDaemonMissing(t *testing.T) {
	const cutOff = "5b2f0f0e-7f3a-4f6b-9d1c-0c5c8f0f2b99"
	for name, wasThere := range map[string]bool{"never": false, "no more": true} {
		t.Run(name, func(t *testing.T) {
			lxc := &fakeLibvirt{}
			if !wasThere {
				lxc.refuses = follow.ErrNoDaemon
			}
			tried(t, nothing, func(l *lab) {
				l.stop()
				l.drivers = map[string]follow.Dial{"qemu:///system": l.libvirt.dial, "lxc:///system": lxc.dial}
				l.start()
				l.pass(time.Minute)
				if wasThere {
					lxc.mu.Lock()
					lxc.refuses = follow.ErrNoDaemon
					lxc.mu.Unlock()
					lxc.lost()
				}
				l.reserve(cutOff)
				l.pass(10 * time.Minute)
				if left := len(l.ports()) == 1; left != wasThere {
					t.Errorf("ports: %+v", l.ports())
				}
			})
		})
	}
}

// TestWrongIsInUse: a domain that runs has the ports that libvirt has made for it, whatever its
// metadata say.
func TestWrongIsInUse(t *testing.T) {
	wrong := func(l *lab) {
		l.run()
		l.web.state = "<p:ports xmlns:p='" + domain.Namespace + "'><p:port alias='ua-nobody'/></p:ports>"
	}
	tried(t, wrong, func(l *lab) {
		if all := l.ports(); len(all) != 1 || all[0].Owner.Endpoint != webPort {
			t.Errorf("ports: %+v", all)
		}
	})
}

// TestUnreadIsInUse: a domain that runs, and whose text cannot be read, has its ports.
func TestUnreadIsInUse(t *testing.T) {
	tried(t, (*lab).run, func(l *lab) {
		l.told(follow.Event{Domain: webUUID}, func() { l.web.devices = "<" })
		l.pass(10 * time.Minute)
		l.wantBound()
		if stage := l.ports()[0].VM.Stage; stage != vswitch.VMActive {
			t.Errorf("stage: %q", stage)
		}
	})
}
