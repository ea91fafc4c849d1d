package vswitch

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseVLANSet(t *testing.T) {
	for text, want := range map[string]string{
		"":                  "",
		"7":                 "7",
		"1-4094":            "1-4094",
		" 200 , 1 - 100":    "1-100,200",
		"1,2,3":             "1-3",
		"10-20,21-30,32":    "10-30,32",
		"0":                 "VLAN 0 is outside 1-4094",
		"4095":              "VLAN 4095 is outside 1-4094",
		"1-9999999":         "VLAN 9999999 is outside 1-4094",
		"20-10":             "VLANs 20-10 are written backwards",
		"1-10,10-20":        "VLANs 1-10 and 10-20 overlap",
		"5,5":               "VLANs 5 and 5 overlap",
		"1-100,20":          "VLANs 1-100 and 20 overlap",
		"-5":                `"" is no VLAN id`,
		"+5":                `"+5" is no VLAN id`,
		"1-":                `"" is no VLAN id`,
		"1-2-3":             `"2-3" is no VLAN id`,
		"all":               `"all" is no VLAN id`,
		"1,,2":              `"" is no VLAN id`,
		"99999999999999999": "VLAN 99999999999999999 is outside",
	} {
		got, err := ParseVLANSet(text)
		if err != nil {
			if !errors.Is(err, VLANRange) || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%q: %v, want %q", text, err, want)
			}
			continue
		}
		if got.String() != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

// TestVLANSetAsSet compares the set with a map, over random lists.
func TestVLANSetAsSet(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	draw := func() (VLANSet, map[int]bool) {
		var ids []int
		in := make(map[int]bool)
		for range random.IntN(6) {
			first := 1 + random.IntN(60)
			for id := first; id < first+random.IntN(8); id++ {
				ids, in[id] = append(ids, id), true
			}
		}
		return VLANs(ids...), in
	}
	for range 2000 {
		a, inA := draw()
		b, inB := draw()
		union, minus := a.Union(b), a.Minus(b)
		n := 0
		for id := 1; id < 80; id++ {
			if a.Contains(id) != inA[id] || union.Contains(id) != (inA[id] || inB[id]) || minus.Contains(id) != (inA[id] && !inB[id]) {
				t.Fatalf("VLAN %d: %q and %q, together %q, less %q", id, a, b, union, minus)
			}
			if inA[id] {
				n++
			}
		}
		if a.Len() != n {
			t.Fatalf("%q has %d VLANs, want %d", a, a.Len(), n)
		}
		again, err := ParseVLANSet(union.String())
		if err != nil || !again.Equal(union) {
			t.Fatalf("%q reads as %q: %v", union, again, err)
		}
	}
}

func TestPortVLAN(t *testing.T) {
	for text, want := range map[string]struct {
		vlan PortVLAN
		in   Membership
	}{
		"untagged":                {PortVLAN{}, Membership{PVID: 4094, Untagged: VLANs(4094)}},
		"access 10":               {AccessVLAN(10), Membership{PVID: 10, Untagged: VLANs(10)}},
		"trunk 1-3,20 native 2":   {PortVLAN{Mode: Trunk, Allowed: VLANs(1, 2, 3, 20), Native: 2}, Membership{PVID: 2, Untagged: VLANs(2), Tagged: VLANs(1, 3, 20)}},
		"trunk 20 native 5":       {PortVLAN{Mode: Trunk, Allowed: VLANs(20), Native: 5}, Membership{PVID: 5, Untagged: VLANs(5), Tagged: VLANs(20)}},
		"isolated 100 101":        {PortVLAN{Mode: Isolated, Primary: 100, Secondary: 101}, Membership{PVID: 101, Untagged: VLANs(100, 101)}},
		"community 100 102":       {PortVLAN{Mode: Community, Primary: 100, Secondary: 102}, Membership{PVID: 102, Untagged: VLANs(100, 102)}},
		"promiscuous 100 101-103": {PortVLAN{Mode: Promiscuous, Primary: 100, Secondaries: VLANs(101, 102, 103)}, Membership{PVID: 100, Untagged: VLANs(100, 101, 102, 103)}},
	} {
		t.Run(text, func(t *testing.T) {
			got, err := ParsePortVLAN(text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want.vlan, got); diff != "" {
				t.Error(diff)
			}
			if got.String() != text {
				t.Errorf("it is written %q", got)
			}
			if diff := cmp.Diff(want.in, got.Membership(4094)); diff != "" {
				t.Error(diff)
			}
			data, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			var again PortVLAN
			if err := json.Unmarshal(data, &again); err != nil || !again.Equal(got) {
				t.Errorf("%s reads as %v: %v", data, again, err)
			}
		})
	}
}

func TestPortVLANRefused(t *testing.T) {
	for text, want := range map[string]Kind{
		`"access"`:                            VLANModeIncomplete,
		`""`:                                  VLANModeIncomplete,
		`"trunk 1-10"`:                        VLANModeIncomplete,
		`"trunk native 5"`:                    VLANModeIncomplete,
		`"isolated 100"`:                      VLANModeIncomplete,
		`"isolated 100 100"`:                  VLANModeIncomplete,
		`"community 7 7"`:                     VLANModeIncomplete,
		`"promiscuous 100"`:                   VLANModeIncomplete,
		`"promiscuous 100 99-101"`:            VLANModeIncomplete,
		`{"mode": "access"}`:                  VLANModeIncomplete,
		`{"mode": "trunk", "native": 1}`:      VLANModeIncomplete,
		`{"mode": "isolated", "primary": 1}`:  VLANModeIncomplete,
		`5000`:                                VLANRange,
		`-1`:                                  VLANRange,
		`"4095"`:                              VLANRange,
		`"access 0"`:                          VLANRange,
		`"trunk 20-10 native 1"`:              VLANRange,
		`{"mode": "access", "id": 4095}`:      VLANRange,
		`{"mode": "trunk", "allowed": "1,1"}`: VLANRange,
		`"access 5 6"`:                        Invalid,
		`"private 5"`:                         Invalid,
		`{"id": 5}`:                           Invalid,
		`{"mode": "access", "id": 5, "native": 6}`:   Invalid,
		`{"mode": "access", "id": 5, "primary": 6}`:  Invalid,
		`{"mode": "access", "vid": 5}`:               Invalid,
		`{"mode": "untagged", "secondaries": "5-6"}`: Invalid,
		`true`: Invalid,
		`1.5`:  Invalid,
	} {
		var v PortVLAN
		err := json.Unmarshal([]byte(text), &v)
		if err == nil {
			err = v.Validate()
		}
		if KindOf(err) != want || err == nil {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestCheckVLANs(t *testing.T) {
	for name, c := range map[string]struct {
		ports string
		host  int
		want  string // a part of the error; "" for none
	}{
		"nothing":                      {},
		"one private VLAN":             {ports: "isolated 100 101; community 100 102; community 100 103; promiscuous 100 101-103", host: 100},
		"two of them":                  {ports: "isolated 100 101; isolated 200 201; promiscuous 200 201"},
		"a trunk over all of it":       {ports: "isolated 100 101; trunk 100-103 native 1"},
		"two primaries":                {ports: "isolated 100 101; isolated 200 101", want: "belong to two primary VLANs, 100 and 200"},
		"two primaries, promiscuous":   {ports: "community 100 102; promiscuous 200 102-103", want: "belong to two primary VLANs, 100 and 200"},
		"two isolated":                 {ports: "isolated 100 101; isolated 100 102", want: "two isolated VLANs, 101 and 102"},
		"isolated and community":       {ports: "isolated 100 101; community 100 101", want: "both isolated and a community"},
		"secondary is a primary":       {ports: "isolated 100 101; isolated 101 102", want: "VLAN 101 is a secondary VLAN of 100 and cannot be a primary one"},
		"access in a secondary":        {ports: "isolated 100 101; access 101", want: "VLAN 101 is a secondary VLAN of 100"},
		"native is a secondary":        {ports: "promiscuous 100 101; trunk 5 native 101", want: "VLAN 101 is a secondary VLAN of 100"},
		"the host port in a secondary": {ports: "community 100 102", host: 102, want: "of the host port"},
	} {
		t.Run(name, func(t *testing.T) {
			var ports []PortVLAN
			for text := range strings.SplitSeq(c.ports, ";") {
				if v, err := ParsePortVLAN(text); err == nil {
					ports = append(ports, v)
				}
			}
			err := CheckVLANs(ports, c.host)
			if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, Conflict) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestInternalVLAN(t *testing.T) {
	for _, c := range []struct {
		present int
		used    string
		want    int
	}{{0, "", 4094}, {0, "4094", 4093}, {4094, "1-4093", 4094}, {4094, "10,4094", 4093}, {4093, "10", 4093}, {4094, "2-4094", 1}, {4094, "1-4094", 0}} {
		used, err := ParseVLANSet(c.used)
		if err != nil {
			t.Fatal(err)
		}
		got, err := InternalVLAN(c.present, used)
		if got != c.want || (c.want == 0) != errors.Is(err, Conflict) {
			t.Errorf("now %d, used %q: %d, %v; want %d", c.present, c.used, got, err, c.want)
		}
	}
}

// FuzzVLANSet holds that what is read can be written and read again as the same.
func FuzzVLANSet(f *testing.F) {
	f.Add("1-100,200")
	f.Add("4094,1")
	f.Fuzz(func(t *testing.T, text string) {
		set, err := ParseVLANSet(text)
		if err != nil {
			if !errors.Is(err, VLANRange) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		again, err := ParseVLANSet(set.String())
		if err != nil || !again.Equal(set) {
			t.Fatalf("%q is %q, and that is %q: %v", text, set, again, err)
		}
		for i, s := range set {
			if s.First < MinVLAN || s.Last > MaxVLAN || s.First > s.Last || i > 0 && set[i-1].Last+1 >= s.First {
				t.Fatalf("%q is %v", text, set)
			}
		}
	})
}

// FuzzPortVLAN holds the same of a port, in both of its spellings, and that one which
// passes Validate is in VLANs of 1-4094 alone.
func FuzzPortVLAN(f *testing.F) {
	f.Add(`"trunk 1-10 native 5"`)
	f.Add(`{"mode": "promiscuous", "primary": 1, "secondaries": "2-3"}`)
	f.Add(`10`)
	f.Fuzz(func(t *testing.T, text string) {
		var v PortVLAN
		if json.Unmarshal([]byte(text), &v) != nil || v.Validate() != nil {
			return
		}
		again, err := ParsePortVLAN(v.String())
		if err != nil || !again.Equal(v) {
			t.Fatalf("%s is %q, and that is %q: %v", text, v, again, err)
		}
		m := v.Membership(MaxVLAN)
		if m.PVID < MinVLAN || m.PVID > MaxVLAN || !m.Untagged.Contains(m.PVID) || len(m.Tagged.Minus(m.Untagged)) != len(m.Tagged) {
			t.Fatalf("%q is in %+v", v, m)
		}
	})
}
