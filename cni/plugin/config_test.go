package plugin

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/core/wire"
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

// The runtime's bandwidth wins over the configuration's, each way by itself; a burst that
// nobody has asked for is none.
func TestParseBandwidth(t *testing.T) {
	type limits = vswitch.Bandwidth
	for name, c := range map[string]struct {
		keys string
		want limits
	}{
		"texts and numbers": {`"bandwidth":{"in":{"max":"10M","burst":1000004},"out":{"max":1500000000}}`, limits{In: vswitch.Limit{Max: 10e6, Burst: 1000008}, Out: vswitch.Limit{Max: 15e8}}},
		"the runtime":       {`"runtimeConfig":{"bandwidth":{"ingressRate":8000000,"ingressBurst":2147483647,"egressRate":16000000,"egressBurst":400000}}`, limits{In: vswitch.Limit{Max: 8e6}, Out: vswitch.Limit{Max: 16e6, Burst: 4e5}}},
		"containerd":        {`"runtimeConfig":{"bandwidth":{"ingressRate":8000000,"ingressBurst":4294967295,"egressRate":0,"egressBurst":4294967295}}`, limits{In: vswitch.Limit{Max: 8e6}}},
		"both":              {`"bandwidth":{"in":{"max":"1G","burst":"1M"},"out":{"max":"2G"}},"runtimeConfig":{"bandwidth":{"ingressRate":8000}}`, limits{In: vswitch.Limit{Max: 8000}, Out: vswitch.Limit{Max: 2e9}}},
		"a minimum":         {`"bandwidth":{"min":{"rate":"100M"}}`, limits{Min: vswitch.Minimum{Rate: 1e8}}},
		"none":              {`"bandwidth":null`, limits{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parse([]byte(conf(`"switch":"s",` + c.keys)))
			if err != nil {
				t.Fatal(err)
			}
			if b := got.Policy.Apply(vswitch.Policy{}).Bandwidth; b != c.want {
				t.Errorf("got %+v, want %+v", b, c.want)
			}
		})
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
		"bandwidth":            {conf(`"switch":"s","bandwidth":{"ingressRate":1}`), types.ErrUnsupportedField, []string{"bandwidth.ingressRate", "in"}},
		"burst of both":        {conf(`"switch":"s","bandwidth":{"burst":"1M"}`), types.ErrUnsupportedField, []string{"bandwidth.burst"}},
		"minimum of bandwidth": {conf(`"switch":"s","bandwidth":{"min":{"wait":5}}`), types.ErrUnsupportedField, []string{"bandwidth.min.wait", "weight"}},
		"limit of bandwidth":   {conf(`"switch":"s","bandwidth":{"out":{"mx":"1M"}}`), types.ErrUnsupportedField, []string{"bandwidth.out.mx", "max"}},
		"no rate":              {conf(`"switch":"s","bandwidth":{"in":{"max":"fast"}}`), types.ErrInvalidNetworkConfig, []string{"bandwidth.in.max", "fast", "RANGE"}},
		"a burst of nothing":   {conf(`"switch":"s","runtimeConfig":{"bandwidth":{"egressBurst":80000}}`), types.ErrInvalidNetworkConfig, []string{"egressBurst", "egressRate"}},
		"VLAN out of range":    {conf(`"switch":"s","vlan":5000`), types.ErrInvalidNetworkConfig, []string{"5000", "VLAN_RANGE"}},
		"rule of an ACL":       {conf(`"switch":"s","acl":["deny out any","deny out tcp"]`), types.ErrInvalidNetworkConfig, []string{"acl[1]", "weight"}},
		"two bad rules":        {conf(`"switch":"s","acl":["drop out any",{"direction":"out","action":"deny","remot":"any"}]`), types.ErrInvalidNetworkConfig, []string{"acl[0]", "acl[1]", "remot"}},
		"no text of a rule":    {conf(`"switch":"s","acl":[5]`), types.ErrInvalidNetworkConfig, []string{"acl[0]", "neither a text nor an object"}},
		"ACL is no list":       {conf(`"switch":"s","acl":"deny out any"`), types.ErrDecodingFailure, []string{"acl"}},
		"rules overlap":        {conf(`"switch":"s","acl":["allow in weight 1","deny in tcp weight 1"]`), types.ErrInvalidNetworkConfig, []string{"AMBIGUOUS", "higher weight"}},
		"half a trunk":         {conf(`"switch":"s","vlanTrunk":[{"id":5}]`), types.ErrInvalidNetworkConfig, []string{"native", "vlanTrunk"}},
		"half a private VLAN":  {conf(`"switch":"s","vlan":"isolated 100"`), types.ErrInvalidNetworkConfig, []string{"secondary", "VLAN_MODE_INCOMPLETE"}},
		"two VLANs":            {conf(`"switch":"s","vlan":"isolated 100 101","vlanTrunk":[{"id":5}]`), types.ErrInvalidNetworkConfig, []string{"different things"}},
		"range of a trunk":     {conf(`"switch":"s","vlan":1,"vlanTrunk":[{"minID":5}]`), types.ErrInvalidNetworkConfig, []string{"vlanTrunk[0]"}},
		"backwards":            {conf(`"switch":"s","vlan":1,"vlanTrunk":[{"minID":9,"maxID":5}]`), types.ErrInvalidNetworkConfig, []string{"9-5", "backwards"}},
		"misspelled in trunk":  {conf(`"switch":"s","vlan":1,"vlanTrunk":[{"minId":5,"maxID":9}]`), types.ErrUnsupportedField, []string{"minId"}},
		"misspelled in switch": {conf(`"switch":{"name":"s","type":"internal","gatway":[]}`), types.ErrUnsupportedField, []string{"switch.gatway", "gateway"}},
		"misspelled in ipam":   {conf(`"switch":"s","ipam":{"type":"patchbay","subnett":"10.0.0.0/24"}`), types.ErrUnsupportedField, []string{"ipam.subnett", "subnet"}},
		"misspelled in range":  {conf(`"switch":"s","ipam":{"type":"patchbay","ranges":[[{"subnet":"10.0.0.0/24","rangestart":"10.0.0.5"}]]}`), types.ErrInvalidNetworkConfig, []string{"rangestart", "rangeStart"}},
		"unknown capability":   {conf(`"switch":"s","runtimeConfig":{"portMappings":[]}`), types.ErrUnsupportedField, []string{"runtimeConfig.portMappings"}},
		"type of an mtu":       {conf(`"switch":"s","mtu":"big"`), types.ErrDecodingFailure, []string{"mtu"}},
		"private with uplink":  {conf(`"switch":{"name":"s","type":"private","uplink":"eth0"}`), types.ErrInvalidNetworkConfig, []string{"uplink eth0"}},
		"private with VLAN":    {conf(`"switch":{"name":"s","type":"private","vlan":5}`), types.ErrInvalidNetworkConfig, []string{"VLAN"}},
		"external, no uplink":  {conf(`"switch":{"name":"s","type":"external"}`), types.ErrInvalidNetworkConfig, []string{"needs an uplink"}},
		"route without dst":    {conf(`"switch":"s","ipam":{"type":"patchbay","subnet":"10.0.0.0/24","routes":[{"gw":"10.0.0.1"}]}`), types.ErrInvalidNetworkConfig, []string{"routes[0]"}},
		"bad MAC":              {conf(`"switch":"s","runtimeConfig":{"mac":"xx"}`), types.ErrInvalidNetworkConfig, []string{"runtimeConfig.mac", "xx"}},
		"ipam without type":    {conf(`"switch":"s","ipam":{"ranges":[[{"subnet":"10.0.0.0/24"}]],"dad":true}`), types.ErrInvalidNetworkConfig, []string{"no type", "dad", "ranges"}},
		"ipam of empty type":   {conf(`"switch":"s","ipam":{"type":"","subnet":"10.0.0.0/24"}`), types.ErrInvalidNetworkConfig, []string{"no type", "subnet"}},
		"no subnet, start":     {conf(`"switch":"s","ipam":{"type":"patchbay","ranges":[[{"subnet":"10.0.0.0/24"}]],"rangeStart":"10.0.0.5"}`), types.ErrInvalidNetworkConfig, []string{"rangeStart", "subnet"}},
		"no subnet, end":       {conf(`"switch":"s","ipam":{"type":"patchbay","rangeEnd":"10.0.0.5"}`), types.ErrInvalidNetworkConfig, []string{"rangeEnd", "subnet"}},
		"no subnet, gateway":   {conf(`"switch":"s","ipam":{"type":"patchbay","gateway":"10.0.0.5"}`), types.ErrInvalidNetworkConfig, []string{"gateway", "subnet"}},
		"no subnet, exclude":   {conf(`"switch":"s","ipam":{"type":"patchbay","exclude":["10.0.0.5"]}`), types.ErrInvalidNetworkConfig, []string{"exclude", "subnet"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse([]byte(c.conf))
			wantCode(t, err, c.code, c.says...)
		})
	}
}

// What is of the wrong JSON type is named by its path and by JSON's words.
func TestDecodingErrors(t *testing.T) {
	for name, c := range map[string]struct{ conf, says string }{
		"list":                {`[]`, "the configuration: here is an array, expected is an object"},
		"name":                {`{"name":5}`, "name: here is a number, expected is a string"},
		"mtu":                 {conf(`"mtu":"big","switch":"s"`), "mtu: here is a string, expected is a whole number"},
		"fraction":            {conf(`"mtu":1.5,"switch":"s"`), "mtu: here is a number 1.5, expected is a whole number"},
		"spoofing":            {conf(`"macSpoofing":1,"switch":"s"`), "macSpoofing: here is a number, expected is a boolean"},
		"dns":                 {conf(`"dns":{"nameservers":"10.0.0.1"},"switch":"s"`), "dns.nameservers: here is a string, expected is an array"},
		"switch":              {conf(`"switch":5`), "switch: here is a number, expected is an object"},
		"gateway":             {conf(`"switch":{"name":"s","gateway":5}`), "switch.gateway: here is a number, expected is an array"},
		"hostAccess":          {conf(`"switch":{"name":"s","hostAccess":"yes"}`), "switch.hostAccess: here is a string, expected is a boolean"},
		"ipam":                {conf(`"switch":"s","ipam":"patchbay"`), "ipam: here is a string, expected is an object"},
		"type of ipam":        {conf(`"switch":"s","ipam":{"type":{}}`), "ipam.type: here is an object, expected is a string"},
		"dad of another":      {conf(`"switch":"s","ipam":{"type":"x","dad":1}`), "ipam.dad: here is a number, expected is a boolean"},
		"subnet":              {conf(`"switch":"s","ipam":{"type":"patchbay","subnet":10}`), "ipam.subnet: here is a number, expected is a string"},
		"subnet of a range":   {conf(`"switch":"s","ipam":{"type":"patchbay","ranges":[[{"subnet":10}]]}`), "ipam.ranges.subnet: here is a number, expected is a string"},
		"ranges, not nested":  {conf(`"switch":"s","ipam":{"type":"patchbay","ranges":[{"subnet":"10.0.0.0/24"}]}`), "ipam.ranges: here is an object, expected is an array"},
		"mac":                 {conf(`"switch":"s","runtimeConfig":{"mac":true}`), "runtimeConfig.mac: here is a boolean, expected is a string"},
		"ips":                 {conf(`"switch":"s","runtimeConfig":{"ips":"10.0.0.1"}`), "runtimeConfig.ips: here is a string, expected is an array"},
		"args":                {conf(`"switch":"s","args":1`), "args: here is a number, expected is an object"},
		"ips of args":         {conf(`"switch":"s","args":{"cni":{"ips":1}}`), "args.cni.ips: here is a number, expected is an array"},
		"prevResult":          {conf(`"switch":"s","prevResult":[]`), "prevResult: here is an array, expected is an object"},
		"name in prevResult":  {conf(`"switch":"s","prevResult":{"interfaces":[{"name":1}]}`), "prevResult.interfaces.name: here is a number, expected is a string"},
		"ip in prevResult":    {conf(`"switch":"s","prevResult":{"ips":[{"address":1}]}`), "here is a number, expected is a string"},
		"route in prevResult": {conf(`"switch":"s","prevResult":{"routes":[{"mtu":"x"}]}`), "mtu: here is a string, expected is a whole number"},
		"null in prevResult":  {conf(`"switch":"s","prevResult":{"interfaces":[{"name":"a"},null]}`), "prevResult.interfaces[1] is null"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parse([]byte(c.conf))
			if err == nil {
				_, err = got.previous()
			}
			wantCode(t, err, types.ErrDecodingFailure, c.says)
			for _, word := range []string{"Go ", "json:", "vswitch.", "types.", " int", "[]"} {
				if strings.Contains(err.Error(), word) {
					t.Errorf("the message is Go's: %v", err)
				}
			}
		})
	}
}

// A text that is not of the expected form is invalid, and its key is named.
func TestInvalidTexts(t *testing.T) {
	for key, conf := range map[string]string{
		"ipam.subnet":    conf(`"switch":"s","ipam":{"type":"patchbay","subnet":"ten"}`),
		"ipam.gateway":   conf(`"switch":"s","ipam":{"type":"patchbay","subnet":"10.0.0.0/24","gateway":"ten"}`),
		"ipam.exclude":   conf(`"switch":"s","ipam":{"type":"patchbay","subnet":"10.0.0.0/24","exclude":["ten"]}`),
		"ipam.ranges":    conf(`"switch":"s","ipam":{"type":"patchbay","ranges":[[{"subnet":"ten"}]]}`),
		"switch.gateway": conf(`"switch":{"name":"s","type":"internal","gateway":["ten"]}`),
		"args.cni":       conf(`"switch":"s","args":{"cni":{"mac":"ten"}}`),
	} {
		t.Run(key, func(t *testing.T) {
			_, err := parse([]byte(conf))
			wantCode(t, err, types.ErrInvalidNetworkConfig, key, "ten")
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
	source, err := os.ReadFile("../../core/vswitch/error.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`Kind = "([A-Z_]+)"`).FindAllSubmatch(source, -1)
	if len(declared) < 20 {
		t.Fatalf("found %d kinds", len(declared))
	}
	for _, match := range declared {
		kind := vswitch.Kind(match[1])
		var e *types.Error
		if !errors.As(cniError(&vswitch.Error{Kind: kind, Err: errors.New("why"), Hint: "do this"}), &e) {
			t.Fatal(kind)
		}
		known := e.Code >= types.ErrIncompatibleCNIVersion && e.Code <= types.ErrTryAgainLater || e.Code >= codeKernel && e.Code <= codeDelegate
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
		conf(`"switch":"s","bandwidth":{"in":{"max":"10M"},"out":{"max":8000,"burst":"1M"},"min":{"weight":5}}`),
		conf(`"switch":"s","prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"tap0"}]},"cni.dev/valid-attachments":[]`),
		conf(`"switch":"s","prevResult":{"cniVersion":"1.1.0","interfaces":[null],"ips":[null],"routes":[null]}`),
		conf(`"switch":"s","prevResult":{"cniVersion":"1.1.0","IPS":[null]}`),
		conf(`"switch":"s","prevResult":{"cniVersion":"1.1.0","ips":[{}],"routes":[{}],"interfaces":[{},{"name":"eth0","sandbox":"x","mac":"x"}]}`),
		strings.Replace(conf(`"switch":"s","prevResult":{"interfaces":[null,{"name":"tap0"}],"ips":[{"version":"4","address":"10.0.0.1/24"}]}`), "1.1.0", "0.4.0", 1),
	} {
		f.Add([]byte(seed), "IP=10.0.0.1;MAC=02:00:00:00:00:01")
		f.Add([]byte(seed), "")
	}
	f.Fuzz(func(t *testing.T, data []byte, args string) {
		_, _ = parseValid(parseRemains(data).valid)
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
		drive(t, c, args)
	})
}

// drive takes a configuration through all that handles what came from outside.
func drive(t *testing.T, c *config, envArgs string) {
	prev, err := c.previous()
	if err != nil || prev == nil {
		prev = &types100.Result{}
	}
	req, err := c.request(wire.Call{ContainerID: "c", IfName: "eth0", Netns: netns, Args: envArgs}, prev)
	if err != nil {
		if e := asCNI(err); e.Code == types.ErrInternal || e.Code == types.ErrUnknown || e.Msg == "" {
			t.Fatalf("an error without code or words: %+v", e)
		}
		return
	}
	a := attachment()
	a.Port.Adopted = req.Netdev != ""
	for _, version := range []string{"0.3.1", "1.0.0", "1.1.0"} {
		r, err := since110(resultOf(a, netns, prev), version)
		if err != nil {
			t.Fatal(err)
		}
		converted, err := r.GetAsVersion(version)
		if err == nil {
			err = converted.PrintTo(io.Discard)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []vswitch.Port{a.Port, {Adopted: true, Owner: a.Port.Owner}} {
		_ = listed(p, netns, prev)
	}
}

func TestParseVLAN(t *testing.T) {
	for keys, want := range map[string]string{
		`"mtu":1500`: "",
		`"vlan":10`:  "access 10",
		`"vlan":0`:   "untagged",
		`"vlan":{"mode":"trunk","native":1,"allowed":"10-12"}`:                 "trunk 10-12 native 1",
		`"vlan":"community 100 102"`:                                           "community 100 102",
		`"vlan":5,"vlanTrunk":[{"id":42},{"minID":200,"maxID":299},{"id":43}]`: "trunk 42-43,200-299 native 5",
	} {
		c, err := parse([]byte(conf(`"switch":"s","portIsolation":true,` + keys)))
		if err != nil {
			t.Errorf("%s: %v", keys, err)
			continue
		}
		if !c.PortIsolation {
			t.Errorf("%s: not isolated", keys)
		}
		if got := c.VLAN; got == nil && want != "" || got != nil && got.String() != want {
			t.Errorf("%s is %v, want %q", keys, got, want)
		}
	}
}
