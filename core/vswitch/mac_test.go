package vswitch_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestParseMAC(t *testing.T) {
	want := vswitch.MAC{0x02, 0, 0x5e, 0x10, 0, 0xff}
	for _, s := range []string{"02:00:5e:10:00:ff", "02:00:5E:10:00:FF", "02-00-5e-10-00-ff", "0200.5e10.00ff", "02005e1000ff"} {
		if got, err := vswitch.ParseMAC(s); err != nil || got != want || got.String() != "02:00:5e:10:00:ff" {
			t.Errorf("ParseMAC(%q) = %v, %v", s, got, err)
		}
	}
	for _, s := range []string{
		"", "02", "02:00:5e:10:00", "02:00:5e:10:00:ff:aa", "02:00:5e:ff:fe:10:00:ff", "02:00:5e:10:00:fg", "02005e1000f",
		" 02:00:5e:10:00:ff", "02:00:5e:10:00-ff", strings.Repeat("02:", 1000),
	} {
		_, err := vswitch.ParseMAC(s)
		if !errors.Is(err, vswitch.MACInvalid) || vswitch.HintOf(err) == "" || len(err.Error()) > 150 {
			t.Errorf("ParseMAC(%.40q): %v", s, err)
		}
	}
}

func TestMACJSON(t *testing.T) {
	type holder struct {
		MAC vswitch.MAC `json:"mac,omitzero"`
	}
	for in, want := range map[string]string{
		`{"mac":"02-00-5E-10-00-01"}`: `{"mac":"02:00:5e:10:00:01"}`, `{"mac":""}`: `{}`, `{}`: `{}`, `{"mac":null}`: `{}`,
	} {
		var h holder
		if err := json.Unmarshal([]byte(in), &h); err != nil {
			t.Errorf("%s: %v", in, err)
		} else if out, err := json.Marshal(h); err != nil || string(out) != want {
			t.Errorf("%s is written as %s, %v; want %s", in, out, err, want)
		}
	}
	if err := json.Unmarshal([]byte(`{"mac":"x"}`), new(holder)); !errors.Is(err, vswitch.MACInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestMACValidateStatic(t *testing.T) {
	for mac, hint := range map[string]string{
		"02:00:00:00:00:01": "ok", "00:00:00:00:00:01": "ok", "fe:ff:ff:ff:ff:ff": "ok",
		"00:00:00:00:00:00": "", "01:00:5e:00:00:01": "as in 00:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff": "as in fe:ff:ff:ff:ff:ff", "33:33:00:00:00:01": "as in 32:33",
	} {
		m, err := vswitch.ParseMAC(mac)
		if err != nil {
			t.Fatal(err)
		}
		err = m.ValidateStatic()
		if hint == "ok" {
			if err != nil {
				t.Errorf("%s: %v", mac, err)
			}
			continue
		}
		if !errors.Is(err, vswitch.MACInvalid) || !strings.Contains(err.Error(), hint) {
			t.Errorf("%s: %v, want the hint %q", mac, err, hint)
		}
	}
}

func TestDerivedMAC(t *testing.T) {
	seen := make(map[vswitch.MAC][]string)
	for _, seeds := range [][]string{{"a", "b"}, {"ab"}, {"a", "b", ""}, {"", "ab"}, {"b", "a"}, {}} {
		m := vswitch.DerivedMAC(seeds...)
		if other, ok := seen[m]; ok || m[0] != 0x0e || m.ValidateStatic() != nil || m != vswitch.DerivedMAC(seeds...) {
			t.Errorf("DerivedMAC(%q) = %s; %q has it too", seeds, m, other)
		}
		seen[m] = seeds
	}
	if got := vswitch.DerivedMAC("bridge", "lan").String(); got != "0e:c3:b4:05:a9:8d" {
		t.Errorf("bridges would get another MAC after an upgrade: %s", got)
	}
}

func FuzzParseMAC(f *testing.F) {
	for _, seed := range []string{"", "02:00:5e:10:00:01", "02-00-5E-10-00-01", "0200.5e10.0001", "00:00:00:00:00:00", "02:00:5e:ff:fe:10:00:01", "zz"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := vswitch.ParseMAC(s)
		if err != nil {
			if !errors.Is(err, vswitch.MACInvalid) {
				t.Fatalf("%q: kind %s", s, vswitch.KindOf(err))
			}
			return
		}
		text, _ := m.MarshalText()
		var back vswitch.MAC
		if err := back.UnmarshalText(text); err != nil || back != m {
			t.Fatalf("%q is written %q and read as %v, %v", s, text, back, err)
		}
		if (m.ValidateStatic() == nil) != (!m.IsZero() && m[0]&1 == 0) {
			t.Fatalf("%s: %v", m, m.ValidateStatic())
		}
	})
}
