package store

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// fill sets every field of a struct, lists and pointers too, to something that is
// not its zero value, so that one forgotten by a codec shows.
func fill(v reflect.Value, n *int) {
	*n++
	switch x := v.Addr().Interface().(type) {
	case *netip.Addr:
		*x = netip.AddrFrom4([4]byte{10, 0, byte(*n >> 8), byte(*n)})
		return
	case *netip.Prefix:
		*x = netip.PrefixFrom(netip.MustParseAddr("fd00::1").Next(), 1+*n%127)
		return
	case *vswitch.ACLRule: // is packed as a text, which says nothing that cannot be
		*x = vswitch.ACLRule{
			Direction: vswitch.ACLIn, Action: vswitch.ACLAllow, Remote: vswitch.ACLAddress{Prefix: netip.MustParsePrefix("fd00::/8")},
			Protocol: vswitch.ProtocolTCP, LocalPort: vswitch.ACLPorts{First: uint16(*n), Last: uint16(*n + 9)},
			Weight: *n, Stateful: true, IdleTimeout: *n + 1,
		}
		return
	case *vswitch.Number:
		*x = vswitch.NumberOf(*n)
		return
	case *time.Time:
		*x = time.Date(2026, 11, 22, 12, 0, *n, *n, time.UTC)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.String:
		v.SetString(string(rune('a'+*n%26)) + "é")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(uint64(*n%255 + 1))
	case reflect.Uint64:
		v.SetUint(uint64(*n) << 40)
	case reflect.Uint16:
		v.SetUint(uint64(*n + 60000))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n - 1000))
	default:
		panic("fill knows no " + v.Kind().String())
	}
}

func compareNetip() cmp.Option {
	return cmp.Options{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
}

func TestPackedRecords(t *testing.T) {
	var n int
	var port vswitch.Port
	fill(reflect.ValueOf(&port).Elem(), &n)
	var realised Realised
	fill(reflect.ValueOf(&realised).Elem(), &n)
	realised.PortProfiles = nil // see Realised
	for name, c := range map[string]struct{ in, out, empty value }{
		"port":     {(*portRecord)(&port), &portRecord{}, &portRecord{}},
		"realised": {&realised, &Realised{}, &Realised{}},
	} {
		t.Run(name, func(t *testing.T) {
			whole := c.in.encode()
			if err := c.out.decode(append(whole, "of a later version"...)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.in, c.out, compareNetip()); diff != "" {
				t.Errorf("packed and unpacked:\n%s", diff)
			}
			if err := c.empty.decode(c.empty.encode()); err != nil {
				t.Errorf("an empty record: %v", err)
			}
			for cut := range whole { // torn anywhere: an error or fewer fields, no panic
				_ = c.empty.decode(whole[:cut])
			}
		})
	}
}

func FuzzUnpack(f *testing.F) {
	var n int
	var port vswitch.Port
	fill(reflect.ValueOf(&port).Elem(), &n)
	f.Add((*portRecord)(&port).encode())
	var realised Realised
	fill(reflect.ValueOf(&realised).Elem(), &n)
	f.Add(realised.encode())
	f.Fuzz(func(t *testing.T, body []byte) {
		var p portRecord
		if p.decode(body) == nil {
			var again portRecord
			if err := again.decode(p.encode()); err != nil {
				t.Errorf("what was read cannot be written: %v", err)
			}
		}
		var r Realised
		_ = r.decode(body)
	})
}
