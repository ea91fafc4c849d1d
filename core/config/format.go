package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Effective is what became of what a configuration leaves out; comments tell it.
type Effective struct {
	MACPool vswitch.MACRange
	MTU     map[string]int // by switch
}

// Format writes a configuration for Parse to read again, the same bytes for the
// same configuration. What has its default stands as a comment beside the rest.
func Format(c vswitch.Config, e Effective) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# The teams and switches of this host, for `patchbay apply -f FILE`. A line that begins with #\n# tells the default that holds where nothing is written.\nversion: %d\n\n", vswitch.ConfigVersion)
	pool, mark := e.MACPool, "# "
	if c.MACPool != nil {
		pool, mark = *c.MACPool, ""
	}
	if pool != (vswitch.MACRange{}) {
		fmt.Fprintf(&b, "%smacPool:\n%s  first: %s\n%s  last: %s\n\n", mark, mark, quote(pool.First.String()), mark, quote(pool.Last.String()))
	}
	for i, t := range c.Teams {
		if i == 0 {
			b.WriteString("teams:\n")
		}
		formatTeam(&b, t)
		b.WriteByte('\n')
	}
	if len(c.Switches) == 0 {
		b.WriteString("switches: []\n")
		return []byte(b.String())
	}
	b.WriteString("switches:\n")
	for i, s := range c.Switches {
		if i > 0 {
			b.WriteByte('\n')
		}
		formatSwitch(&b, s, e.MTU[s.Name])
	}
	return []byte(b.String())
}

func formatSwitch(b *strings.Builder, s vswitch.Switch, mtu int) {
	s = s.Normalized()
	fmt.Fprintf(b, "  - name: %s\n", quote(s.Name))
	field := func(given bool, format string, args ...any) {
		mark := ""
		if !given {
			mark = "# "
		}
		fmt.Fprintf(b, "    %s%s\n", mark, fmt.Sprintf(format, args...))
	}
	bare := s
	bare.HostAccess, bare.Type = nil, ""
	if s.Type != "" {
		field(bare.Normalized().Type != s.Type || s.Uplink == "", "type: %s", quote(string(s.Type)))
	}
	if s.Uplink != "" {
		field(true, "uplink: %s", quote(s.Uplink))
	}
	bare.Type = s.Type
	field(s.HostPort() != bare.HostPort(), "hostAccess: %t", s.HostPort())
	if s.VLAN != 0 {
		field(true, "vlan: %d", s.VLAN)
	}
	if s.MTU != 0 {
		field(true, "mtu: %d", s.MTU)
	} else if mtu != 0 {
		field(false, "mtu: %d", mtu)
	}
	if len(s.Gateway) > 0 {
		field(true, "gateway: [%s]", quoteAll(s.Gateway))
	}
	if !s.Masquerade.IsZero() {
		field(true, "masquerade: %s", masquerade(s.Masquerade))
	} else if s.Type == vswitch.Internal {
		field(false, "masquerade: false")
	}
	for _, p := range []struct {
		key    string
		policy vswitch.Policy
	}{{"portDefaults", s.PortDefaults}, {"hostPolicy", s.HostPolicy}} {
		if !p.policy.IsZero() {
			field(true, "%s: %s", p.key, flow(p.policy))
		}
	}
	if s.SRIOV {
		field(true, "sriov: true")
	}
	if u := s.Normalized().MinBandwidth; !u.IsZero() {
		field(true, "minBandwidth: %s", flow(u))
	}
	if len(s.PortProfiles) > 0 {
		field(true, "portProfiles:")
		for _, f := range s.PortProfiles {
			field(true, "  - %s", flow(f))
		}
	}
	if s.Notes != "" {
		field(true, "notes: %s", quote(s.Notes))
	}
}

// flow writes a value of ours in one line: its JSON, without the quotes that YAML does not
// need.
func flow(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic("config: " + err.Error()) // a struct of numbers, texts and lists of those
	}
	var n yaml.Node
	if err := yaml.Unmarshal(text, &n); err != nil {
		panic("config: " + err.Error()) // JSON is YAML
	}
	relax(&n)
	text, err = yaml.Marshal(&n)
	if err != nil {
		panic("config: " + err.Error())
	}
	return strings.TrimSuffix(string(text), "\n")
}

// relax takes away the quotes that nodes were read with.
func relax(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		n.Style = 0
	}
	for _, c := range n.Content {
		relax(c)
	}
}

// formatTeam writes what differs from the defaults, and those as comments.
func formatTeam(b *strings.Builder, t vswitch.Team) {
	given, t := t.Bare(), t.Normalized()
	fmt.Fprintf(b, "  - name: %s\n", quote(t.Name))
	text := func(key, value, bare string) {
		mark := "# "
		if bare != "" {
			mark = ""
		}
		if value != "" {
			fmt.Fprintf(b, "    %s%s: %s\n", mark, key, quote(value))
		}
	}
	number := func(key string, value, bare int) {
		mark := "# "
		if bare != 0 {
			mark = ""
		}
		if value != 0 {
			fmt.Fprintf(b, "    %s%s: %d\n", mark, key, value)
		}
	}
	text("mode", string(t.Mode), string(given.Mode))
	members := make([]string, 0, len(t.Members))
	for _, m := range t.Members {
		members = append(members, quote(m))
	}
	fmt.Fprintf(b, "    members: [%s]\n", strings.Join(members, ", "))
	text("primary", t.Primary, given.Primary)
	text("reselect", string(t.Reselect), string(given.Reselect))
	text("standby", t.Standby, given.Standby)
	text("hash", string(t.Hash), string(given.Hash))
	number("minLinks", t.MinLinks, given.MinLinks)
	text("lacpRate", string(t.LACPRate), string(given.LACPRate))
	number("monitor", t.Monitor, given.Monitor)
	number("upDelay", t.UpDelay, given.UpDelay)
	number("downDelay", t.DownDelay, given.DownDelay)
	if t.Lab {
		b.WriteString("    lab: true\n")
	}
	text("notes", t.Notes, given.Notes)
}

func masquerade(m vswitch.Masquerade) string {
	if m.IPv4 == m.IPv6 {
		return fmt.Sprint(m.IPv4)
	}
	return m.String()
}

func quoteAll(gateway []netip.Prefix) string {
	words := make([]string, 0, len(gateway))
	for _, g := range gateway {
		words = append(words, quote(g.String()))
	}
	return strings.Join(words, ", ")
}

// quote writes text so that YAML reads it as that text: bare where nothing could be
// meant by it but a word or an IPv4 address with its length.
func quote(s string) string {
	bare := regexp.MustCompile(`^(?:[A-Za-z][A-Za-z0-9_]*(?:[.-][A-Za-z0-9_]+)*|\d+\.\d+\.\d+\.\d+/\d+)$`)
	if bare.MatchString(s) && !isYAMLWord(s) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// isYAMLWord tells words that some reader of YAML takes for a value.
func isYAMLWord(s string) bool {
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf":
		return true
	}
	return false
}
