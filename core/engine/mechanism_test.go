package engine_test

import (
	"context"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// TestMissingMechanisms: whatever a kernel lacks of what policies are made of, who needs it is
// told CAPABILITY_MISSING and each symbol of the kernel's configuration, or it works in another
// way; status and doctor tell in either case. Conntrack of bridges, police and matchall are not
// among them: nothing uses them.
func TestMissingMechanisms(t *testing.T) {
	attach := func(change vswitch.PolicyChange) func(*lab) error {
		return func(l *lab) error {
			_, err := l.Attach(context.Background(), promised(0, change))
			return err
		}
	}
	limit := vswitch.LimitChange{Max: ptr(vswitch.Bits(1e6))}
	limits := []string{"CONFIG_NET_SCH_TBF", "CONFIG_IFB", "CONFIG_NET_SCH_INGRESS", "CONFIG_NET_CLS_U32", "CONFIG_NET_CLS_ACT", "CONFIG_NET_ACT_MIRRED"}
	mirrors := []string{"CONFIG_NF_TABLES_BRIDGE", "CONFIG_NET_SCH_INGRESS", "CONFIG_NET_CLS_U32", "CONFIG_NET_CLS_ACT", "CONFIG_NET_ACT_MIRRED"}
	guards := []string{"CONFIG_NF_TABLES_BRIDGE", "CONFIG_NFT_LIMIT", "5.11"}
	for _, c := range []struct {
		name    string
		lacks   func(*kernel.Capabilities)
		do      func(*lab) error
		symbols []string
		works   bool // in another way
	}{
		{"dhcpGuard", func(c *kernel.Capabilities) { c.GuardRules = false }, attach(vswitch.PolicyChange{DHCPGuard: ptr(true)}), guards, false},
		{"routerGuard", func(c *kernel.Capabilities) { c.GuardRules = false }, attach(vswitch.PolicyChange{RouterGuard: ptr(true)}), guards, false},
		{"stormLimit", func(c *kernel.Capabilities) { c.GuardRules = false }, attach(vswitch.PolicyChange{StormLimit: ptr(10)}), guards, false},
		{"acl", func(c *kernel.Capabilities) { c.ACLRules = false }, attach(vswitch.PolicyChange{ACL: ptr(aclRules(t, "deny out any"))}), []string{"CONFIG_NF_TABLES_BRIDGE", "5.7"}, false},
		{"in.max", func(c *kernel.Capabilities) { c.Limits = false }, attach(vswitch.PolicyChange{Bandwidth: vswitch.BandwidthChange{In: limit}}), limits, false},
		{"out.max", func(c *kernel.Capabilities) { c.Limits = false }, attach(vswitch.PolicyChange{Bandwidth: vswitch.BandwidthChange{Out: limit}}), limits, false},
		{"min", func(c *kernel.Capabilities) { c.Shares = false }, attach(weight(9)), []string{"CONFIG_NET_SCH_HTB", "CONFIG_NET_CLS_U32"}, false},
		{"mirror source", func(c *kernel.Capabilities) { c.Mirroring = false }, attach(vswitch.PolicyChange{Mirror: ptr(vswitch.MirrorSource)}), mirrors, false},
		{"mirror destination", func(c *kernel.Capabilities) { c.Mirroring = false }, attach(vswitch.PolicyChange{Mirror: ptr(vswitch.MirrorDestination)}), mirrors, false},
		{"rules on bridges", func(c *kernel.Capabilities) { c.BridgeRules = false }, func(l *lab) error {
			_, err := l.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: vswitch.Switch{Name: "lab", Type: vswitch.Private}})
			return err
		}, []string{"CONFIG_NF_TABLES_BRIDGE"}, false},
		{"priority", func(c *kernel.Capabilities) { c.PriorityReset = false }, attach(vswitch.PolicyChange{}), []string{"CONFIG_NF_TABLES_BRIDGE in Linux 6.5"}, true},
		{"MAC spoofing", func(c *kernel.Capabilities) { c.PortLocked = false }, attach(vswitch.PolicyChange{}), []string{"5.18"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, caps := context.Background(), allCapabilities()
			c.lacks(&caps)
			l := newLabWith(t, caps)
			l.sharedWAN("")
			err := c.do(l)
			if c.works {
				must(t, err)
			} else {
				wantKind(t, err, vswitch.CapabilityMissing)
			}
			s, failed := l.Status(ctx)
			must(t, failed)
			d, failed := l.Doctor(ctx, engine.DoctorRequest{})
			must(t, failed)
			var status, doctor strings.Builder
			for _, p := range s.Problems {
				if p.Kind == vswitch.CapabilityMissing {
					status.WriteString(p.Message + " " + p.Hint)
				}
			}
			for _, f := range d.Findings {
				if f.Severity != engine.Fine {
					doctor.WriteString(strings.Join(f.Mend, " "))
				}
			}
			for _, symbol := range c.symbols {
				if !c.works && !strings.Contains(err.Error(), symbol) {
					t.Errorf("%s is not in %v", symbol, err)
				}
				if !strings.Contains(status.String(), symbol) {
					t.Errorf("status does not tell of %s: %s", symbol, status.String())
				}
				if !strings.Contains(doctor.String(), symbol) {
					t.Errorf("doctor does not tell of %s: %s", symbol, doctor.String())
				}
			}
		})
	}
}
