package vswitch_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func macs(t testing.TB, first, last string) vswitch.MACRange {
	t.Helper()
	a, err1 := vswitch.ParseMAC(first)
	b, err2 := vswitch.ParseMAC(last)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return vswitch.MACRange{First: a, Last: b}
}

func TestDefaultMACRange(t *testing.T) {
	const machineID = "4d5a2f0b8d1e4c6e9f0a1b2c3d4e5f60"
	r := vswitch.DefaultMACRange(machineID)
	if err := r.Validate(); err != nil || r.Size() != 256 {
		t.Errorf("%s has %d addresses: %v", r, r.Size(), err)
	}
	if got, want := r.String(), "0a:50:42:95:7f:00-0a:50:42:95:7f:ff"; got != want {
		t.Errorf("got %s, want %s: a host would lose its range by an upgrade", got, want)
	}
	if vswitch.DefaultMACRange("one") == vswitch.DefaultMACRange("another") {
		t.Error("two machines have one range")
	}
}

func TestMACRange(t *testing.T) {
	bad := is(vswitch.MACPoolRange)
	for _, c := range []struct {
		name, first, last string
		size              int
		wider             string
		want              []vswitch.Kind
		says              string
	}{
		{name: "one address", first: "02:00:00:00:00:01", last: "02:00:00:00:00:01", size: 1, wider: "02:00:00:00:00:00-02:00:00:00:00:0f"},
		{name: "256", first: "0a:50:42:12:34:00", last: "0a:50:42:12:34:ff", size: 256, wider: "0a:50:42:12:30:00-0a:50:42:12:3f:ff"},
		{name: "across a boundary", first: "02:00:00:00:0f:ff", last: "02:00:00:00:10:00", size: 2, wider: "02:00:00:00:00:00-02:00:00:00:1f:ff"},
		{name: "no power of two", first: "02:00:00:00:00:00", last: "02:00:00:00:00:02", size: 3, wider: "02:00:00:00:00:00-02:00:00:00:00:3f"},
		{name: "half of the prefix", first: "02:00:00:80:00:00", last: "02:00:00:ff:ff:ff", size: 1 << 23, wider: "02:00:00:00:00:00-02:00:00:ff:ff:ff"},
		{name: "all of the prefix", first: "02:00:00:00:00:00", last: "02:00:00:ff:ff:ff", size: 1 << 24, wider: "02:00:00:00:00:00-02:00:00:ff:ff:ff"},
		{name: "next to zero", first: "00:00:00:00:00:01", last: "00:00:00:00:00:0f", size: 15, wider: "00:00:00:00:00:01-00:00:00:00:00:ff"},

		{name: "zero", first: "00:00:00:00:00:00", last: "00:00:00:00:00:ff", want: bad, says: "all zero"},
		{name: "multicast", first: "01:00:00:00:00:00", last: "01:00:00:00:00:ff", want: is(vswitch.MACPoolRange, vswitch.MACPoolRange), says: "multicast"},
		{name: "two prefixes", first: "02:00:00:ff:ff:ff", last: "02:00:01:00:00:00", want: bad, says: "first three octets"},
		{name: "backwards", first: "02:00:00:00:00:02", last: "02:00:00:00:00:01", want: bad, says: "lies behind"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := macs(t, c.first, c.last)
			check(t, r.Validate(), c.want, c.says)
			if c.want != nil {
				return
			}
			if r.Size() != c.size || r.Wider().String() != c.wider || !r.Contains(r.First) || !r.Contains(r.Last) {
				t.Errorf("size %d, wider %s", r.Size(), r.Wider())
			}
		})
	}
	r := macs(t, "02:00:00:00:00:10", "02:00:00:00:00:1f")
	for _, m := range []vswitch.MAC{{2, 0, 0, 0, 0, 0x0f}, {2, 0, 0, 0, 0, 0x20}, {3, 0, 0, 0, 0, 0x10}, {2, 0, 1, 0, 0, 0x10}, {}} {
		if r.Contains(m) {
			t.Errorf("%s contains %s", r, m)
		}
	}
}

func TestMACRangeExhausted(t *testing.T) {
	for name, c := range map[string]struct {
		r    vswitch.MACRange
		want string
	}{
		"default": {
			macs(t, "0a:50:42:12:34:00", "0a:50:42:12:34:ff"),
			"MAC pool: all 256 addresses of 0a:50:42:12:34:00-0a:50:42:12:34:ff are in use; run `patchbay mac pool set --first 0a:50:42:12:30:00 --last 0a:50:42:12:3f:ff`, or give static addresses outside the range",
		},
		"whole prefix": {
			macs(t, "02:00:00:00:00:00", "02:00:00:ff:ff:ff"),
			"MAC pool: all 16777216 addresses of 02:00:00:00:00:00-02:00:00:ff:ff:ff are in use; run `patchbay mac pool set` with another prefix, or give static addresses outside the range",
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.r.Exhausted()
			if diff := cmp.Diff(c.want, err.Error()); diff != "" || !errors.Is(err, vswitch.MACPoolExhausted) {
				t.Errorf("%v (-want +got):\n%s", vswitch.KindOf(err), diff)
			}
		})
	}
}

func FuzzMACRange(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 0, 0}, []byte{2, 0, 0, 0, 0, 255})
	f.Add([]byte{0, 0, 0, 0, 0, 1}, []byte{0, 0, 0, 0, 0, 1})
	f.Add([]byte{2, 0, 0, 0x7f, 0xff, 0xff}, []byte{2, 0, 0, 0x80, 0, 0})
	f.Add([]byte{2, 0, 0, 9, 0, 0}, []byte{2, 0, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, first, last []byte) {
		var r vswitch.MACRange
		copy(r.First[:], first)
		copy(r.Last[:], last)
		if err := r.Validate(); err != nil {
			for _, k := range kinds(err) {
				if k != vswitch.MACPoolRange {
					t.Fatalf("kind %s: %v", k, err)
				}
			}
			return
		}
		if n := r.Size(); n < 1 || n > vswitch.MaxMACPoolSize {
			t.Fatalf("%s has %d addresses", r, n)
		}
		w := r.Wider()
		if err := w.Validate(); err != nil {
			t.Fatalf("%s is widened to %s: %v", r, w, err)
		}
		if !w.Contains(r.First) || !w.Contains(r.Last) || w.Size() < min(16*r.Size(), vswitch.MaxMACPoolSize)-1 {
			t.Fatalf("%s is widened to %s", r, w)
		}
		if err := r.Exhausted(); strings.Contains(err.Error(), w.First.String()+" --last "+w.Last.String()) == (w == r) {
			t.Fatalf("%v", err)
		}
	})
}
