package kernel

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// The names of a guest's port that is limited and of what limits it.
const limitedPort, limiter = "pbguestguestgu0", "pqguestguestgu0"

// limited is the lab's switch with a guest whose port has limits, in bits a second.
func (l *linuxLab) limited(in, out vswitch.Bits) plan.State {
	s := l.state(1500)
	p := l.guest(0, 1500)
	p.Name = limitedPort
	if in+out > 0 {
		p.Limits = plan.Limits{Via: limiter, Alias: "patchbay:limit switch=s"}
		p.Limits.To, p.Limits.From = plan.ShapeOf(vswitch.Limit{Max: in}, p.MTU), plan.ShapeOf(vswitch.Limit{Max: out}, p.MTU)
	}
	s.Ports[p.Name] = p
	return s
}

// tc shows what `tc` and `ip` know of the port's limits, without what changes by itself.
func (l *linuxLab) tc() string {
	l.t.Helper()
	text := sh(l.t, l.host, "tc qdisc show | sort; tc filter show dev "+limitedPort+" ingress; ip addr show type ifb")
	text = strings.NewReplacer(limitedPort, "PORT", limiter, "VIA").Replace(text)
	return regexp.MustCompile(` refcnt \d+`).ReplaceAllString(text, "")
}

func TestLimitsAreReached(t *testing.T) {
	l := newLinuxLab(t, 1)
	pristine := sh(t, l.host, "ip -o link")
	bare := l.limited(0, 0)
	had := plan.State{}
	for _, c := range []struct {
		name    string
		in, out vswitch.Bits
		want    []string
		not     string
	}{
		{"both", 10e6, 1e9, []string{
			"tbf 5042: dev PORT root rate 10Mbit burst 24351b", "tbf 5042: dev VIA root rate 1Gbit burst 1250000b",
			"clsact ffff: dev PORT", "(Egress Redirect to device VIA) stolen",
		}, "fe80"},
		{"others", 20e6, 100e9, []string{"dev PORT root rate 20Mbit", "dev VIA root rate 100Gbit"}, "10Mbit"},
		{"to the guest alone", 20e6, 0, []string{"dev PORT root rate 20Mbit"}, "VIA"},
		{"from the guest alone", 0, 8000, []string{"dev VIA root rate 8Kbit burst 6088b"}, "dev PORT root rate"},
	} {
		want := l.limited(c.in, c.out)
		l.reach(want, had)
		had = want
		got := l.tc()
		for _, w := range c.want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: %q is not in\n%s", c.name, w, got)
			}
		}
		if strings.Contains(got, c.not) {
			t.Errorf("%s: %q is in\n%s", c.name, c.not, got)
		}
	}
	l.reach(bare, had)
	if got := l.tc(); strings.Contains(got, "VIA") || strings.Contains(got, "tbf") || strings.Contains(got, "clsact") {
		t.Errorf("left:\n%s", got)
	}
	l.reach(had, bare)
	sh(t, l.host, "tc filter add dev "+limitedPort+" egress pref 7 u32 match u32 0 0 classid :1") // of somebody else
	l.reach(bare, had)
	if got := sh(t, l.host, "tc filter show dev "+limitedPort+" egress"); !strings.Contains(got, "pref 7") {
		t.Errorf("another's filter went along: %s", got)
	}
	l.reach(had, bare)
	l.reach(plan.State{}, had)
	if diff := cmp.Diff(pristine, sh(t, l.host, "ip -o link")); diff != "" {
		t.Errorf("left on the host:\n%s", diff)
	}
}

// What a stranger does to a limit is seen, and mended.
func TestLimitsAreMended(t *testing.T) {
	l := newLinuxLab(t, 1)
	limited := l.limited(10e6, 1e9)
	l.reach(limited, plan.State{})
	whole := l.tc()
	for _, harm := range []string{
		"tc qdisc del dev PORT root", "tc qdisc replace dev PORT root handle 1: htb",
		"tc qdisc del dev VIA root", "tc filter del dev PORT ingress", "tc qdisc del dev PORT clsact", "ip link del VIA",
		"ip link set VIA down", "tc qdisc replace dev VIA root handle 5042: tbf rate 9mbit burst 10k latency 1ms",
		"tc qdisc replace dev VIA root handle 1: htb", "ip link set VIA alias other", "ip link del VIA; ip link add VIA group 0x50420001 type ifb",
	} {
		sh(t, l.host, strings.NewReplacer("PORT", limitedPort, "VIA", limiter).Replace(harm))
		if rest := plan.Diff(limited, l.observe(limited)); len(rest) == 0 {
			t.Errorf("%s: nobody sees it", harm)
		}
		l.reach(limited, limited)
		got := l.tc()
		same := regexp.MustCompile(`\d+: VIA|link/ether [0-9a-f:]+|index \d+ ref|fh [0-9a-f:]+|ht [0-9a-f]+|order \d+`)
		if diff := cmp.Diff(same.ReplaceAllString(whole, ""), same.ReplaceAllString(got, "")); diff != "" {
			t.Errorf("%s (-whole +mended):\n%s", harm, diff)
		}
	}
}
