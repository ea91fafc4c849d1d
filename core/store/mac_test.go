package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// withRange is a store whose pool is 0a:50:42:00:00:first-last.
func withRange(t testing.TB, first, last byte) *fixture {
	t.Helper()
	f := newFixture(t)
	f.setRange(t, first, last)
	return f
}

func (f *fixture) setRange(t testing.TB, first, last byte) {
	t.Helper()
	f.updateConfig(t, func(tx *Tx) error { return tx.SetMACRange(vswitch.MACRange{First: pooled(first), Last: pooled(last)}) })
}

func pooled(n byte) vswitch.MAC { return vswitch.MAC{0x0a, 0x50, 0x42, 0, 0, n} }

// lease returns the last byte of the address that port gets.
func (f *fixture) lease(t testing.TB, port string) (n byte) {
	t.Helper()
	f.update(t, func(tx *Tx) error {
		m, err := tx.LeaseMAC(port)
		n = m[5]
		return err
	})
	return n
}

func (f *fixture) delete(t testing.TB, port string) {
	t.Helper()
	f.update(t, func(tx *Tx) error { return tx.DeletePort(port) })
}

func TestMACReuseOrder(t *testing.T) {
	f := withRange(t, 1, 3)
	wantEqual(t, []byte{f.lease(t, "a"), f.lease(t, "b")}, []byte{1, 2})
	f.delete(t, "a")
	wantEqual(t, f.lease(t, "c"), byte(3)) // one that was never used, though 1 is free
	f.time = f.time.Add(time.Second)
	f.delete(t, "c")
	f.delete(t, "b")
	f.time = f.time.Add(2 * DefaultQuarantine)
	wantEqual(t, f.lease(t, "d"), byte(1)) // the oldest released first
	f.delete(t, "d")
	wantEqual(t, []byte{f.lease(t, "e"), f.lease(t, "f")}, []byte{3, 2})
	wantEqual(t, f.lease(t, "g"), byte(1)) // in quarantine, and yet before the pool is called empty
	err := f.Update(func(tx *Tx) error { _, err := tx.LeaseMAC("h"); return err })
	wantKind(t, err, vswitch.MACPoolExhausted)
	if !strings.Contains(err.Error(), "all 3 addresses of 0a:50:42:00:00:01-0a:50:42:00:00:03") || !strings.Contains(err.Error(), "patchbay mac pool set") {
		t.Error(err)
	}
}

func TestMACStatic(t *testing.T) {
	f := withRange(t, 1, 9)
	free, inside := macOf(t, "02:00:00:00:00:01"), pooled(5)
	f.update(t, func(tx *Tx) error { return tx.HoldMAC(free, "a") })
	tests := []struct {
		name string
		mac  vswitch.MAC
		port string
		kind vswitch.Kind
		says string
	}{
		{"again by its holder", free, "a", "", ""},
		{"held by another", free, "b", vswitch.MACDuplicate, "port a has it"},
		{"inside the pool", inside, "b", vswitch.MACStaticInPool, "0a:50:42:00:00:01-0a:50:42:00:00:09"},
		{"multicast", macOf(t, "03:00:00:00:00:01"), "b", vswitch.MACInvalid, "multicast"},
		{"zero", vswitch.MAC{}, "b", vswitch.MACInvalid, "all zero"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := f.Update(func(tx *Tx) error { return tx.HoldMAC(test.mac, test.port) })
			if test.kind == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantKind(t, err, test.kind)
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v does not say %q", err, test.says)
			}
		})
	}
	f.update(t, func(tx *Tx) error { return errors.Join(tx.DeletePort("a"), tx.DeletePort("a")) })
	f.update(t, func(tx *Tx) error { return tx.HoldMAC(free, "b") }) // asked for, quarantine or not
	f.view(t, func(tx *Tx) error {
		macs, err := tx.MACs()
		wantEqual(t, macs, []MACLease{{free, Lease{Port: "b", Static: true}}})
		return err
	})
}

func TestMACRangeChange(t *testing.T) {
	f := withRange(t, 1, 4)
	for _, port := range []string{"a", "b", "c"} {
		f.lease(t, port) // 1, 2, 3
	}
	f.delete(t, "b")

	f.setRange(t, 3, 6)
	wantEqual(t, f.lease(t, "d"), byte(4)) // 3 is held by a lease of the other range
	f.view(t, func(tx *Tx) error {
		c, err := tx.MACCounts()
		wantEqual(t, c, MACCounts{Used: 2, Outside: 1, Quarantined: 1})
		return err
	})

	f.setRange(t, 1, 4) // back: what is held is not handed out, 2 is what is left
	wantEqual(t, f.lease(t, "e"), byte(2))
	err := f.Update(func(tx *Tx) error { _, err := tx.LeaseMAC("f"); return err })
	wantKind(t, err, vswitch.MACPoolExhausted)

	// Released as a lease of range 3-6, found by the one that covers it too.
	f.delete(t, "d")
	wantEqual(t, f.lease(t, "g"), byte(4))
}

func TestMACRangeRefused(t *testing.T) {
	f := withRange(t, 1, 4)
	static := pooled(0x20)
	f.update(t, func(tx *Tx) error { return tx.HoldMAC(static, "a") })
	for name, r := range map[string]vswitch.MACRange{
		"holds a static address": {First: pooled(0x10), Last: pooled(0x30)},
		"backwards":              {First: pooled(9), Last: pooled(1)},
	} {
		t.Run(name, func(t *testing.T) {
			err := f.UpdateConfig(func(tx *Tx) error { return tx.SetMACRange(r) })
			wantKind(t, err, vswitch.MACPoolRange)
			if name != "backwards" && !strings.Contains(err.Error(), static.String()+", the static address of port a") {
				t.Error(err)
			}
		})
	}
	f.view(t, func(tx *Tx) error {
		r, isDefault, err := tx.MACRange()
		wantEqual(t, r, vswitch.MACRange{First: pooled(1), Last: pooled(4)})
		wantEqual(t, isDefault, false)
		return err
	})
}

// The first leases of the largest pool touch as few pages as those of a small one:
// the run file stays small, and nothing is laid out in advance.
func TestMACLargestPool(t *testing.T) {
	f := newFixture(t)
	f.updateConfig(t, func(tx *Tx) error {
		return tx.SetMACRange(vswitch.MACRange{First: vswitch.MAC{0x0a, 0x50, 0x42}, Last: vswitch.MAC{0x0a, 0x50, 0x42, 0xff, 0xff, 0xff}})
	})
	const leases = 300
	f.update(t, func(tx *Tx) error {
		for i := range leases {
			m, err := tx.LeaseMAC(fmt.Sprint("p", i))
			if err != nil {
				return err
			}
			wantEqual(t, m, vswitch.MAC{0x0a, 0x50, 0x42, 0, byte(i >> 8), byte(i)})
		}
		return nil
	})
	if size := fileSize(t, f.runFile()); size > leases*1024 {
		t.Errorf("%d leases take %d bytes", leases, size)
	}
}

// What a pool forgets so that its queue stays short is found when it comes round.
func TestMACForgottenAddressesComeBack(t *testing.T) {
	f := newFixture(t)
	const size = maxResting + 100
	last := vswitch.MAC{0x0a, 0x50, 0x42, 0, byte((size - 1) >> 8), byte((size - 1) & 0xff)}
	f.updateConfig(t, func(tx *Tx) error {
		return tx.SetMACRange(vswitch.MACRange{First: vswitch.MAC{0x0a, 0x50, 0x42}, Last: last})
	})
	f.update(t, func(tx *Tx) error {
		for i := range size {
			if _, err := tx.LeaseMAC(fmt.Sprint("p", i)); err != nil {
				return err
			}
		}
		return nil
	})
	f.update(t, func(tx *Tx) error {
		for i := range maxResting {
			if err := tx.DeletePort(fmt.Sprint("p", i)); err != nil {
				return err
			}
		}
		return nil
	})
	f.time = f.time.Add(2 * DefaultQuarantine)
	f.update(t, func(tx *Tx) error { return tx.DeletePort(fmt.Sprint("p", maxResting)) })
	wantEqual(t, f.lease(t, "again"), byte(0)) // forgotten, hence older than all that is not
	seen := map[vswitch.MAC]bool{}
	f.update(t, func(tx *Tx) error {
		for i := range maxResting {
			m, err := tx.LeaseMAC(fmt.Sprint("q", i))
			if err != nil || seen[m] {
				return errors.Join(err, fmt.Errorf("%s twice: %v", m, seen[m]))
			}
			seen[m] = true
		}
		return nil
	})
	f.update(t, func(tx *Tx) error {
		_, err := tx.LeaseMAC("one too many")
		wantKind(t, err, vswitch.MACPoolExhausted)
		return nil
	})
}

func TestClockSetBack(t *testing.T) {
	f := withRange(t, 1, 1)
	f.lease(t, "a")
	f.delete(t, "a")
	f.time = f.time.Add(-time.Hour)
	wantEqual(t, f.lease(t, "b"), byte(1))
}
