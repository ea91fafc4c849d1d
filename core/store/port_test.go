package store

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestSwitches(t *testing.T) {
	f := newFixture(t)
	access := true
	want := SwitchRecord{
		Switch: vswitch.Switch{
			Name: "prod", Type: vswitch.Internal, HostAccess: &access, MTU: 9000,
			Gateway: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}, Masquerade: vswitch.Masquerade{IPv4: true},
		},
		Number: 2, HostMAC: macOf(t, "0a:50:42:00:00:01"), EffectiveMTU: 9000, Created: time.Unix(1_700_000_000, 0).UTC(),
	}
	f.updateConfig(t, func(tx *Tx) error {
		for _, s := range []SwitchRecord{want, {Switch: vswitch.Switch{Name: "dmz"}, Number: 1}, {Switch: vswitch.Switch{Name: "test"}, Number: 4}} {
			if err := tx.PutSwitch(s); err != nil {
				return err
			}
		}
		return nil
	})
	f.view(t, func(tx *Tx) error {
		got, err := tx.Switch("prod")
		wantEqual(t, got, want)
		all, err2 := tx.Switches()
		var names []string
		for _, s := range all {
			names = append(names, s.Name)
		}
		wantEqual(t, names, []string{"dmz", "prod", "test"})
		n, err3 := tx.FreeSwitchNumber()
		wantEqual(t, n, uint16(3))
		return errors.Join(err, err2, err3)
	})
	f.updateConfig(t, func(tx *Tx) error { return errors.Join(tx.DeleteSwitch("prod"), tx.DeleteSwitch("prod")) })
	f.view(t, func(tx *Tx) error {
		_, err := tx.Switch("prod")
		wantKind(t, err, vswitch.NotFound)
		wantEqual(t, vswitch.HintOf(err), "`patchbay switch list` shows those that exist")
		return nil
	})
}

func TestPorts(t *testing.T) {
	f := newFixture(t)
	f.update(t, func(tx *Tx) error {
		for i := range 5 {
			if err := attach(tx, fmt.Sprintf("pb%d", i), []string{"prod", "test"}[i%2]); err != nil {
				return err
			}
		}
		return nil
	})
	on := func(switchName string) (ids []string) {
		f.view(t, func(tx *Tx) error {
			ports, err := tx.PortsOf(switchName)
			for _, p := range ports {
				ids = append(ids, p.ID)
			}
			n, err2 := tx.PortCount(switchName)
			wantEqual(t, n, len(ids))
			return errors.Join(err, err2)
		})
		return ids
	}
	wantEqual(t, on("prod"), []string{"pb0", "pb2", "pb4"})
	wantEqual(t, on("test"), []string{"pb1", "pb3"})
	wantEqual(t, on("pro"), []string(nil))

	f.update(t, func(tx *Tx) error {
		p, err := tx.Port("pb2")
		if err != nil {
			return err
		}
		p.MTU = 9000
		if err := tx.PutPort(p); err != nil {
			return err
		}
		p.Switch = "test"
		return tx.PutPort(p)
	})
	wantEqual(t, on("prod"), []string{"pb0", "pb4"})
	wantEqual(t, on("test"), []string{"pb1", "pb2", "pb3"})

	f.update(t, func(tx *Tx) error {
		return errors.Join(tx.DeletePort("pb1"), tx.DeletePort("pb1"), tx.DeletePort("pb9"))
	})
	wantEqual(t, on("test"), []string{"pb2", "pb3"})
	f.view(t, func(tx *Tx) error {
		_, err := tx.Port("pb1")
		wantKind(t, err, vswitch.NotFound)
		p, err := tx.Port("pb2")
		wantEqual(t, p.MTU, 9000)
		all, err2 := tx.Ports()
		wantEqual(t, len(all), 4)
		return errors.Join(err, err2)
	})
}

func TestDeletePortReleasesItsAddresses(t *testing.T) {
	f := newFixture(t)
	static := macOf(t, "02:00:00:00:00:01")
	f.update(t, func(tx *Tx) error {
		return errors.Join(
			attach(tx, "pb1", "prod"), attach(tx, "pb2", "prod"),
			tx.HoldMAC(static, "pb1"), tx.HoldIP("prod", netip.MustParseAddr("fd00::5"), "pb1"),
			tx.HoldIP("test", netip.MustParseAddr("192.0.2.7"), "pb1"),
		)
	})
	f.update(t, func(tx *Tx) error { return tx.DeletePort("pb1") })
	checkConsistent(t, f.Store)
	f.update(t, func(tx *Tx) error {
		c, err := tx.MACCounts()
		wantEqual(t, c, MACCounts{Used: 1, Quarantined: 2})
		rest, err2 := tx.IPs("test")
		wantEqual(t, rest, []IPLease(nil))
		return errors.Join(err, err2, tx.DeletePort("pb2"))
	})
	f.time = f.time.Add(DefaultQuarantine)
	f.view(t, func(tx *Tx) error {
		c, err := tx.MACCounts()
		wantEqual(t, c, MACCounts{})
		return err
	})
}

func TestKeysThatCannotBe(t *testing.T) {
	f := newFixture(t)
	for name, fn := range map[string]func(*Tx) error{
		"port without id":     func(tx *Tx) error { return tx.PutPort(vswitch.Port{Switch: "prod"}) },
		"port with NUL":       func(tx *Tx) error { return tx.PutPort(vswitch.Port{ID: "a\x00p", Switch: "prod"}) },
		"port without switch": func(tx *Tx) error { return tx.PutPort(vswitch.Port{ID: "a"}) },
		"holder without name": func(tx *Tx) error { _, err := tx.LeaseMAC(""); return err },
		"IP of no switch":     func(tx *Tx) error { return tx.HoldIP("", netip.MustParseAddr("10.0.0.1"), "a") },
		"no IP":               func(tx *Tx) error { return tx.HoldIP("prod", netip.Addr{}, "a") },
		"IP with zone":        func(tx *Tx) error { return tx.HoldIP("prod", netip.MustParseAddr("fe80::1%eth0"), "a") },
		"fact without key":    func(tx *Tx) error { return tx.PutFact("", 1) },
	} {
		t.Run(name, func(t *testing.T) { wantKind(t, f.Update(fn), vswitch.Invalid) })
	}
}

func TestLoad(t *testing.T) {
	f := newFixture(t)
	load := func() (l vswitch.Load) {
		f.view(t, func(tx *Tx) (err error) { l, err = tx.Load("prod"); return err })
		return l
	}
	put := func(id string, segment int, spoofing bool) {
		f.update(t, func(tx *Tx) error {
			return tx.PutPort(vswitch.Port{ID: id, Switch: "prod", Segment: segment, MACSpoofing: spoofing})
		})
	}
	wantEqual(t, load(), vswitch.Load{})
	put("a", 0, false)
	put("b", 0, true)
	put("c", 2, false)
	put("d", 2, false)
	wantEqual(t, load(), vswitch.Load{Root: 1, Spoofing: 1, Further: []int{0, 2}})
	put("d", 1, false) // moved
	put("a", 0, false) // again
	wantEqual(t, load(), vswitch.Load{Root: 1, Spoofing: 1, Further: []int{1, 1}})
	f.update(t, func(tx *Tx) error { return errors.Join(tx.DeletePort("c"), tx.DeletePort("c"), tx.DeletePort("b")) })
	wantEqual(t, load(), vswitch.Load{Root: 1, Further: []int{1}})
	f.update(t, func(tx *Tx) error { return errors.Join(tx.DeletePort("d"), tx.DeletePort("a")) })
	wantEqual(t, load(), vswitch.Load{})
	for _, segment := range []int{-1, vswitch.MaxSegments + 1} {
		wantKind(t, f.Update(func(tx *Tx) error { return tx.PutPort(vswitch.Port{ID: "x", Switch: "prod", Segment: segment}) }), vswitch.Invalid)
	}
}
