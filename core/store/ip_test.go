package store

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func (f *fixture) leaseIP(t testing.TB, switchName string, set vswitch.IPRangeSet, port string) (s string) {
	t.Helper()
	f.update(t, func(tx *Tx) error {
		a, err := tx.LeaseIP(switchName, set, port)
		s = a.String()
		return err
	})
	return s
}

func TestIPRanges(t *testing.T) {
	f := newFixture(t)
	set := append(between("10.0.0.0/24", "10.0.0.9", "10.0.0.10"), between("10.0.1.0/24", "10.0.1.5", "10.0.1.5")...)
	wantEqual(t, f.leaseIP(t, "prod", set, "a"), "10.0.0.9")
	wantEqual(t, f.leaseIP(t, "prod", set, "b"), "10.0.0.10")
	wantEqual(t, f.leaseIP(t, "prod", set, "c"), "10.0.1.5")
	err := f.Update(func(tx *Tx) error { _, err := tx.LeaseIP("prod", set, "d"); return err })
	wantKind(t, err, vswitch.IPPoolExhausted)
	for _, says := range []string{"switch prod", "all 3 addresses of 10.0.0.9-10.0.0.10, 10.0.1.5", "widen"} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("%v does not say %q", err, says)
		}
	}
	wantEqual(t, f.leaseIP(t, "test", set, "d"), "10.0.0.9") // another switch is another world
	f.delete(t, "b")
	wantEqual(t, f.leaseIP(t, "prod", set, "e"), "10.0.0.10")
}

func TestIPNetworksOfOneSwitch(t *testing.T) {
	f := newFixture(t)
	one, two := between("10.0.0.0/24", "10.0.0.9", "10.0.0.11"), between("10.0.0.0/24", "10.0.0.10", "10.0.0.12")
	seen := map[string]bool{}
	for _, step := range []struct {
		set  vswitch.IPRangeSet
		port string
	}{{one, "a"}, {two, "b"}, {one, "c"}, {two, "d"}} {
		ip := f.leaseIP(t, "prod", step.set, step.port)
		if seen[ip] {
			t.Fatalf("%s twice", ip)
		}
		seen[ip] = true
	}
	err := f.Update(func(tx *Tx) error { _, err := tx.LeaseIP("prod", one, "e"); return err })
	wantKind(t, err, vswitch.IPPoolExhausted)
}

func TestIPv6(t *testing.T) {
	f := newFixture(t)
	wantEqual(t, f.leaseIP(t, "prod", ranges("fd00::/64"), "a"), "fd00::2") // ::1 is the gateway
	wantEqual(t, f.leaseIP(t, "prod", ranges("10.0.0.0/30"), "a"), "10.0.0.2")
	f.view(t, func(tx *Tx) error {
		got, err := tx.IPs("prod")
		wantEqual(t, got, []IPLease{
			{netip.MustParseAddr("10.0.0.2"), Lease{Port: "a"}},
			{netip.MustParseAddr("fd00::2"), Lease{Port: "a"}},
		})
		return err
	})
	size := ipExhausted("prod", ranges("fd00::/64").Spans())
	if !strings.Contains(size.Error(), "18446744073709551614 addresses") {
		t.Error(size)
	}
}

func TestHoldIP(t *testing.T) {
	f := newFixture(t)
	second := netip.MustParseAddr("10.0.0.3")
	hold := func(port string) error {
		return f.Update(func(tx *Tx) error { return tx.HoldIP("prod", second, port) })
	}
	if err := errors.Join(hold("a"), hold("a")); err != nil {
		t.Fatal(err)
	}
	err := hold("b")
	wantKind(t, err, vswitch.IPInUse)
	if !strings.Contains(err.Error(), "port a has it") {
		t.Error(err)
	}
	set := ranges("10.0.0.0/29")
	wantEqual(t, f.leaseIP(t, "prod", set, "c"), "10.0.0.2")
	wantEqual(t, f.leaseIP(t, "prod", set, "d"), "10.0.0.4") // past the one that is held
	f.delete(t, "a")
	if err := hold("b"); err != nil { // asked for, quarantine or not
		t.Fatal(err)
	}
	f.delete(t, "b")
	for _, want := range []string{"10.0.0.5", "10.0.0.6", "10.0.0.3"} {
		wantEqual(t, f.leaseIP(t, "prod", set, "e"), want)
	}
}

func TestDeleteSwitchForgetsItsAddresses(t *testing.T) {
	f := newFixture(t)
	set := ranges("10.0.0.0/29")
	f.leaseIP(t, "prod", set, "a")
	f.leaseIP(t, "prod", set, "b")
	f.delete(t, "a")
	f.updateConfig(t, func(tx *Tx) error { return tx.DeleteSwitch("prod") })
	wantEqual(t, f.leaseIP(t, "prod", set, "c"), "10.0.0.2")
	wantEqual(t, f.leaseIP(t, "prod", set, "d"), "10.0.0.4") // b has 10.0.0.3 still
}
