package vswitch_test

import (
	"encoding/json"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestMasquerade(t *testing.T) {
	for _, c := range []struct {
		in, out, word string
		want          vswitch.Masquerade
	}{
		{`true`, `true`, "on", vswitch.Masquerade{IPv4: true, IPv6: true}},
		{`false`, `false`, "off", vswitch.Masquerade{}},
		{`null`, `false`, "off", vswitch.Masquerade{}},
		{`"ipv4"`, `"ipv4"`, "ipv4", vswitch.Masquerade{IPv4: true}},
		{`"ipv6"`, `"ipv6"`, "ipv6", vswitch.Masquerade{IPv6: true}},
		{`"on"`, `true`, "on", vswitch.Masquerade{IPv4: true, IPv6: true}},
		{`"off"`, `false`, "off", vswitch.Masquerade{}},
	} {
		t.Run(c.in, func(t *testing.T) {
			var m vswitch.Masquerade
			if err := json.Unmarshal([]byte(c.in), &m); err != nil || m != c.want {
				t.Fatalf("got %+v, %v", m, err)
			}
			out, err := json.Marshal(m)
			if err != nil || string(out) != c.out || m.String() != c.word || m.IsZero() != (c.word == "off") {
				t.Errorf("written as %s, %q, %v", out, m.String(), err)
			}
			if back, err := vswitch.ParseMasquerade(m.String()); err != nil || back != m {
				t.Errorf("%q is read as %+v, %v", m.String(), back, err)
			}
		})
	}
	for _, in := range []string{`"ipv5"`, `1`, `{}`, `["ipv4"]`, `"IPv4"`} {
		if err := json.Unmarshal([]byte(in), new(vswitch.Masquerade)); err == nil {
			t.Errorf("%s is accepted", in)
		}
	}
	out, err := json.Marshal(vswitch.Switch{Name: "lab", Type: vswitch.Private})
	if want := `{"name":"lab","type":"private"}`; err != nil || string(out) != want {
		t.Errorf("got %s, %v; want %s", out, err, want)
	}
}
