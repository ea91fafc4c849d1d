package plugin

import (
	"encoding/json"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// prevResult is a result as the runtime hands it to CHECK.
func prevResult(t *testing.T, r *types100.Result) string {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return `,"prevResult":` + string(text)
}

// CHECK compares what the runtime was told with what there is.
func TestCheckComparesThePreviousResult(t *testing.T) {
	for name, c := range map[string]struct {
		more   string // in the configuration
		change func(r *types100.Result)
		says   string // "": all is well
	}{
		"as told":             {"", func(*types100.Result) {}, ""},
		"MAC left out":        {"", func(r *types100.Result) { r.Interfaces[2].Mac = "" }, ""},
		"MAC spelt otherwise": {`,"runtimeConfig":{"mac":"02:00:00:00:00:AB"}`, func(r *types100.Result) { r.Interfaces[2].Mac = "02-00-00-00-00-AB" }, ""},
		"interface of another": {"", func(r *types100.Result) {
			r.Interfaces = append(r.Interfaces, &types100.Interface{Name: "eth1", Sandbox: netns})
		}, ""},
		"another MAC":            {"", func(r *types100.Result) { r.Interfaces[2].Mac = "02:00:00:00:00:77" }, "02:00:00:00:00:77"},
		"no MAC":                 {"", func(r *types100.Result) { r.Interfaces[2].Mac = "nonsense" }, "nonsense"},
		"another MAC, as it may": {`,"macSpoofing":true`, func(r *types100.Result) { r.Interfaces[2].Mac = "02:00:00:00:00:77" }, ""},
		"no interface":           {"", func(r *types100.Result) { r.Interfaces = r.Interfaces[:2] }, "eth0"},
		"another interface":      {"", func(r *types100.Result) { r.Interfaces[2].Name = "eth7" }, "eth0"},
		"another namespace":      {"", func(r *types100.Result) { r.Interfaces[2].Sandbox = "/run/netns/d" }, "/run/netns/d"},
		"on the host":            {"", func(r *types100.Result) { r.Interfaces[2].Sandbox = "" }, "eth0"},
		"no addresses":           {"", func(r *types100.Result) { r.IPs = nil }, "10.0.0.2/24"},
		"another address":        {"", func(r *types100.Result) { r.IPs[0].Address.IP[3] = 99 }, "10.0.0.2/24"},
		"another prefix":         {"", func(r *types100.Result) { r.IPs[1].Address.Mask[7] = 0 }, "fd00::2/64"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			r := l.attached(on(c.more + own))
			c.change(r)
			err := l.check(t.Context(), args(on(c.more+own+prevResult(t, r))))
			if c.says == "" {
				l.must(err)
				return
			}
			wantCode(t, err, codeDrift, c.says)
		})
	}
}

func TestCheckTellsOfDamage(t *testing.T) {
	l := newLab(t)
	r := l.attached(on(own))
	l.kernel.SetNetdevDown(netns, "eth0")
	wantCode(t, l.check(t.Context(), args(on(own+prevResult(t, r)))), codeDrift, "eth0")
	wantCode(t, l.check(t.Context(), args(on(own))), 7, "prevResult")
	for _, list := range []string{"interfaces", "ips", "routes", "Interfaces", "IPS"} {
		wantCode(t, l.check(t.Context(), args(on(own+`,"prevResult":{"cniVersion":"1.1.0","`+list+`":[null]}`))), 6, list+"[0]")
	}
}
