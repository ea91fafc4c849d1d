package vswitch_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestUnmarshalStrict(t *testing.T) {
	bad := is(vswitch.Invalid)
	for _, c := range []struct {
		in   string
		want []vswitch.Kind
		says string
	}{
		{in: `{"name":"lan","type":"internal"}`},
		{in: ` {"name":"lan"} ` + "\n"},
		{in: `{"nane":"lan"}`, want: bad, says: `key "nane": unknown; did you mean "name"?`},
		{in: `{"Name":"lan"}`, want: bad, says: `did you mean "name"?`},
		{in: `{"hostaccess":true}`, want: bad, says: `did you mean "hostAccess"?`},
		{in: `{"zzzzzzzz":1}`, want: bad, says: "known keys: name, type, uplink, hostAccess, vlan, mtu, gateway, masquerade, portDefaults, portProfiles, hostPolicy, sriov, minBandwidth, notes"},
		{in: `{"nane":"lan","typo":"x","zzzzzzzz":1}`, want: is(vswitch.Invalid, vswitch.Invalid, vswitch.Invalid), says: "typo"},
		{in: `{"name":1}`, want: bad, says: "name"},
		{in: `[]`, want: bad, says: "array"},
		{in: `{"name":"lan"} {}`, want: bad, says: "more than one"},
		{in: `{"name":"lan"`, want: bad, says: "EOF"},
		{in: ``, want: bad, says: "EOF"},
		{in: `{"` + strings.Repeat("k", 100000) + `":1}`, want: bad, says: "known keys"},
	} {
		t.Run(fmt.Sprintf("%.40s", c.in), func(t *testing.T) {
			var s vswitch.Switch
			err := vswitch.UnmarshalStrict([]byte(c.in), &s)
			check(t, err, c.want, c.says)
			if err != nil && len(err.Error()) > 600 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestNearest(t *testing.T) {
	known := vswitch.JSONKeys(new(vswitch.Switch))
	for word, want := range map[string]string{
		"name": "name", "gateways": "gateway", "GATEWAY": "gateway", "mtuu": "mtu", "masqerade": "masquerade", "hostAcces": "hostAccess",
		"completelyDifferent": "", "": "", strings.Repeat("name", 1000): "",
	} {
		if got := vswitch.Nearest(word, known); got != want {
			t.Errorf("Nearest(%.40q) = %q, want %q", word, got, want)
		}
	}
	if err := vswitch.CheckKeys(json.RawMessage(`"text"`), known); err != nil {
		t.Errorf("not an object: %v", err)
	}
}
