package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// conf completes a configuration with what every one has.
func conf(rest string) string {
	return `{"cniVersion":"1.1.0","name":"net","type":"patchbay",` + rest + `}`
}

func TestParse(t *testing.T) {
	c, err := parse([]byte(conf(`"switch":{"name":"prod","type":"internal","gateway":["10.0.0.1/24"],"masquerade":"ipv4"},
		"mtu":1400,"macSpoofing":true,"dns":{"nameservers":["10.0.0.1"]},"capabilities":{"mac":true},"cni.dev/later":1,
		"ipam":{"type":"patchbay","subnet":"10.0.0.0/24","rangeStart":"10.0.0.50","exclude":["10.0.0.60-10.0.0.70","10.0.0.80/28"],
			"ranges":[[{"subnet":"fd00::/64"}]],"routes":[{"dst":"0.0.0.0/0","mtu":1300,"advmss":1200,"priority":5,"table":100,"scope":0}],"dad":true},
		"args":{"cni":{"ips":["10.0.0.51"],"other":1},"labels":{}},
		"runtimeConfig":{"mac":"02:00:00:00:00:09","ips":["10.0.0.52/24"],"ipRanges":[[{"subnet":"10.1.0.0/24"}]]}`)))
	if err != nil {
		t.Fatal(err)
	}
	if c.Switch != "prod" || c.define == nil || c.define.Masquerade != (vswitch.Masquerade{IPv4: true}) {
		t.Errorf("switch %q %+v", c.Switch, c.define)
	}
	if c.MTU != 1400 || !c.MACSpoofing || c.DNS.Nameservers[0] != "10.0.0.1" || !c.IPAM.DAD {
		t.Errorf("%+v", c)
	}
	if len(c.IPAM.Ranges) != 2 || len(c.IPAM.Ranges[1][0].Exclude) != 2 || *c.IPAM.Routes[0].Table != 100 {
		t.Errorf("ipam %+v", c.IPAM)
	}
	w, err := c.wishes("IP=10.0.0.53;MAC=02:00:00:00:00:01")
	if err != nil || w.mac.String() != "02:00:00:00:00:09" || w.ips[0] != netip.MustParseAddr("10.0.0.52") {
		t.Errorf("a capability wins over args and CNI_ARGS: %+v, %v", w, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		conf string
		code uint
		says []string
	}{
		"no JSON":              {`{`, types.ErrDecodingFailure, nil},
		"no object":            {`[]`, types.ErrDecodingFailure, nil},
		"no switch":            {conf(`"mtu":1`), types.ErrInvalidNetworkConfig, []string{`"switch" is missing`}},
		"empty switch":         {conf(`"switch":""`), types.ErrInvalidNetworkConfig, nil},
		"switch is a number":   {conf(`"switch":5`), types.ErrDecodingFailure, nil},
		"switch name":          {conf(`"switch":"../x"`), types.ErrInvalidNetworkConfig, nil},
		"misspelled key":       {conf(`"switch":"s","macspoof":true`), types.ErrUnsupportedField, []string{"macspoof", "true", "macSpoofing"}},
		"bandwidth":            {conf(`"switch":"s","bandwidth":{"ingressRate":1}`), types.ErrUnsupportedField, []string{"bandwidth", "ingressRate", "not supported yet"}},
		"vlan":                 {conf(`"switch":"s","vlan":5`), types.ErrUnsupportedField, []string{"vlan", "5"}},
		"misspelled in switch": {conf(`"switch":{"name":"s","type":"internal","gatway":[]}`), types.ErrUnsupportedField, []string{"switch.gatway", "gateway"}},
		"misspelled in ipam":   {conf(`"switch":"s","ipam":{"type":"patchbay","subnett":"10.0.0.0/24"}`), types.ErrUnsupportedField, []string{"ipam.subnett", "subnet"}},
		"misspelled in range":  {conf(`"switch":"s","ipam":{"type":"patchbay","ranges":[[{"subnet":"10.0.0.0/24","rangestart":"10.0.0.5"}]]}`), types.ErrInvalidNetworkConfig, []string{"rangestart", "rangeStart"}},
		"unknown capability":   {conf(`"switch":"s","runtimeConfig":{"portMappings":[]}`), types.ErrUnsupportedField, []string{"runtimeConfig.portMappings"}},
		"type of an mtu":       {conf(`"switch":"s","mtu":"big"`), types.ErrDecodingFailure, []string{"mtu"}},
		"private with uplink":  {conf(`"switch":{"name":"s","type":"private","uplink":"eth0"}`), types.ErrInvalidNetworkConfig, []string{"uplink eth0"}},
		"private with VLAN":    {conf(`"switch":{"name":"s","type":"private","vlan":5}`), types.ErrInvalidNetworkConfig, []string{"VLAN"}},
		"external, no uplink":  {conf(`"switch":{"name":"s","type":"external"}`), types.ErrInvalidNetworkConfig, []string{"needs an uplink"}},
		"route without dst":    {conf(`"switch":"s","ipam":{"type":"patchbay","subnet":"10.0.0.0/24","routes":[{"gw":"10.0.0.1"}]}`), types.ErrInvalidNetworkConfig, []string{"routes[0]"}},
		"bad MAC":              {conf(`"switch":"s","runtimeConfig":{"mac":"xx"}`), types.ErrInvalidNetworkConfig, []string{"xx"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse([]byte(c.conf))
			wantCode(t, err, c.code, c.says...)
		})
	}
}

func wantCode(t *testing.T, err error, code uint, says ...string) {
	t.Helper()
	var e *types.Error
	if !errors.As(cniError(err), &e) {
		t.Fatalf("got %v, want an error with code %d", err, code)
	}
	if e.Code != code {
		t.Errorf("code %d (%s; %s), want %d", e.Code, e.Msg, e.Details, code)
	}
	for _, s := range says {
		if !strings.Contains(e.Msg+e.Details, s) {
			t.Errorf("%q is in neither %q nor %q", s, e.Msg, e.Details)
		}
	}
}

func TestEnvArgs(t *testing.T) {
	for name, c := range map[string]struct {
		args string
		want cniArgs
		bad  bool
	}{
		"none":             {args: ""},
		"kubernetes":       {args: "K8S_POD_NAME=web;K8S_POD_NAMESPACE=default"},
		"mac and ip":       {args: "MAC=02:00:00:00:00:01;IP=10.0.0.9,fd00::9", want: cniArgs{MAC: vswitch.MAC{2, 0, 0, 0, 0, 1}, IPs: []string{"10.0.0.9", "fd00::9"}}},
		"unknown":          {args: "WHAT=1", bad: true},
		"unknown, ignored": {args: "WHAT=1;IgnoreUnknown=1"},
		"ignore what":      {args: "IgnoreUnknown=perhaps", bad: true},
		"no pair":          {args: "MAC", bad: true},
		"bad mac":          {args: "MAC=1", bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseEnvArgs(c.args)
			if c.bad {
				wantCode(t, err, types.ErrInvalidEnvironmentVariables)
				return
			}
			if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
}

func TestRequestedAddresses(t *testing.T) {
	for s, ok := range map[string]bool{
		"10.0.0.5": true, "10.0.0.5/24": true, "fd00::5/64": true, "10.0.0.5/33": false, "10.0.0": false, "": false, "fe80::1%eth0": false,
	} {
		if _, err := parseAddress(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// Whatever goes wrong has a code of the specification or of ours, never 999.
func TestEveryKindHasACode(t *testing.T) {
	for _, kind := range vswitch.Kinds() {
		var e *types.Error
		if !errors.As(cniError(&vswitch.Error{Kind: kind, Err: errors.New("why"), Hint: "do this"}), &e) {
			t.Fatal(kind)
		}
		known := e.Code >= types.ErrIncompatibleCNIVersion && e.Code <= types.ErrTryAgainLater || e.Code >= codeKernel && e.Code <= codeDrift
		if !known || !strings.Contains(e.Msg, string(kind)) || e.Details != "do this" {
			t.Errorf("%s becomes %d %q %q", kind, e.Code, e.Msg, e.Details)
		}
	}
	wantCode(t, fmt.Errorf("anything"), codeKernel)
}

func TestJoinedKeepsTheFirstCode(t *testing.T) {
	if joined(nil, nil) != nil {
		t.Error("nothing went wrong, and it is an error")
	}
	err := joined(nil, types.NewError(types.ErrIOFailure, "first", "hint"), &vswitch.Error{Kind: vswitch.NotFound, Err: errors.New("second")})
	wantCode(t, err, types.ErrIOFailure, "first", "second", "hint")
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		conf(`"switch":"s"`),
		conf(`"switch":{"name":"prod","type":"internal","gateway":["10.0.0.1/24","fd00::1/64"],"masquerade":true}`),
		conf(`"switch":"s","ipam":{"type":"patchbay","subnet":"10.0.0.0/24","exclude":["10.0.0.5"],"routes":[{"dst":"::/0","gw":"fd00::1"}]}`),
		conf(`"switch":"s","runtimeConfig":{"mac":"02:00:00:00:00:01","ips":["10.0.0.1/24"]},"args":{"cni":{"mac":""}}`),
		conf(`"switch":"s","prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"tap0"}]},"cni.dev/valid-attachments":[]`),
	} {
		f.Add([]byte(seed), "IP=10.0.0.1;MAC=02:00:00:00:00:01")
	}
	f.Fuzz(func(t *testing.T, data []byte, args string) {
		c, err := parse(data)
		if err != nil {
			var e *types.Error
			if !errors.As(cniError(err), &e) || e.Code == types.ErrInternal || e.Msg == "" {
				t.Fatalf("an error without code or words: %v", err)
			}
			return
		}
		if err := vswitch.ValidateName(c.Switch); err != nil {
			t.Errorf("a switch that cannot be named was let in: %v", err)
		}
		_, _ = c.wishes(args)
		_, _ = c.previous()
	})
}
