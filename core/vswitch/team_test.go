package vswitch_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func pair(change func(*vswitch.Team)) vswitch.Team {
	t := vswitch.Team{Name: "team0", Members: []string{"eth0", "eth1"}}
	change(&t)
	return t
}

func TestTeamValidate(t *testing.T) {
	many := make([]string, vswitch.MaxTeamMembers+1)
	for i := range many {
		many[i] = fmt.Sprintf("eth%d", i)
	}
	for name, c := range map[string]struct {
		team vswitch.Team
		kind vswitch.Kind // "": valid
		says string
	}{
		"two members":              {pair(func(*vswitch.Team) {}), "", ""},
		"one member":               {pair(func(t *vswitch.Team) { t.Members = t.Members[:1] }), "", ""},
		"32 members":               {pair(func(t *vswitch.Team) { t.Members = many[:32] }), "", ""},
		"everything of lacp":       {pair(func(t *vswitch.Team) { t.Mode, t.Hash, t.MinLinks, t.LACPRate = "lacp", "ip-addresses", 2, "slow" }), "", ""},
		"standby of active-active": {pair(func(t *vswitch.Team) { t.Mode, t.Standby = "active-active", "eth1" }), "", ""},
		"delays":                   {pair(func(t *vswitch.Team) { t.Monitor, t.UpDelay, t.DownDelay = 50, 30000, 100 }), "", ""},
		"primary":                  {pair(func(t *vswitch.Team) { t.Primary, t.Reselect = "eth1", "always" }), "", ""},

		"no member":            {pair(func(t *vswitch.Team) { t.Members = nil }), vswitch.TeamMembers, "1 to 32"},
		"33 members":           {pair(func(t *vswitch.Team) { t.Members = many }), vswitch.TeamMembers, "33 members"},
		"member twice":         {pair(func(t *vswitch.Team) { t.Members[1] = "eth0" }), vswitch.TeamMembers, "twice"},
		"bad member":           {pair(func(t *vswitch.Team) { t.Members[1] = "a/b" }), vswitch.TeamMembers, "not a netdev name"},
		"itself":               {pair(func(t *vswitch.Team) { t.Members[1] = "team0" }), vswitch.TeamMembers, "its own"},
		"standby in lacp":      {pair(func(t *vswitch.Team) { t.Mode, t.Standby = "lacp", "eth1" }), vswitch.TeamStandby, "all members are active"},
		"standby in standby":   {pair(func(t *vswitch.Team) { t.Standby = "eth1" }), vswitch.TeamStandby, "list it last"},
		"two standbys":         {pair(func(t *vswitch.Team) { t.Mode, t.Standby = "active-active", "eth0,eth1" }), vswitch.TeamStandby, "one at most"},
		"strange standby":      {pair(func(t *vswitch.Team) { t.Mode, t.Standby = "active-active", "eth2" }), vswitch.TeamStandby, "not among"},
		"nothing but standby":  {pair(func(t *vswitch.Team) { t.Mode, t.Members, t.Standby = "active-active", []string{"eth1"}, "eth1" }), vswitch.TeamStandby, "only member"},
		"round robin":          {pair(func(t *vswitch.Team) { t.Mode = "balance-rr" }), vswitch.TeamOption, "order of a flow"},
		"tlb":                  {pair(func(t *vswitch.Team) { t.Mode = "balance-tlb" }), vswitch.TeamOption, "MAC addresses"},
		"alb":                  {pair(func(t *vswitch.Team) { t.Mode = "balance-alb" }), vswitch.TeamOption, "MAC addresses"},
		"unknown mode":         {pair(func(t *vswitch.Team) { t.Mode = "fast" }), vswitch.Invalid, "active-standby, active-active, static or lacp"},
		"hash of standby":      {pair(func(t *vswitch.Team) { t.Hash = "mac-addresses" }), vswitch.TeamOption, "hash is for mode static or lacp"},
		"unknown hash":         {pair(func(t *vswitch.Team) { t.Mode, t.Hash = "static", "layer9" }), vswitch.TeamOption, "transport-ports"},
		"rate outside lacp":    {pair(func(t *vswitch.Team) { t.Mode, t.LACPRate = "static", "slow" }), vswitch.TeamOption, "lacpRate is for mode lacp"},
		"unknown rate":         {pair(func(t *vswitch.Team) { t.Mode, t.LACPRate = "lacp", "never" }), vswitch.TeamOption, "fast or slow"},
		"min links of static":  {pair(func(t *vswitch.Team) { t.Mode, t.MinLinks = "static", 1 }), vswitch.TeamOption, "minLinks is for mode lacp"},
		"too many min links":   {pair(func(t *vswitch.Team) { t.Mode, t.MinLinks = "lacp", 3 }), vswitch.TeamOption, "outside 1-2"},
		"primary in lacp":      {pair(func(t *vswitch.Team) { t.Mode, t.Primary = "lacp", "eth0" }), vswitch.TeamOption, "primary is for"},
		"strange primary":      {pair(func(t *vswitch.Team) { t.Primary = "eth7" }), vswitch.TeamOption, "not among"},
		"unknown reselect":     {pair(func(t *vswitch.Team) { t.Reselect = "never" }), vswitch.TeamOption, "failure, better or always"},
		"monitor off":          {pair(func(t *vswitch.Team) { t.Monitor = -1 }), vswitch.TeamOption, "10-10000"},
		"odd delay":            {pair(func(t *vswitch.Team) { t.UpDelay = 150 }), vswitch.TeamOption, "use 200"},
		"negative delay":       {pair(func(t *vswitch.Team) { t.DownDelay = -100 }), vswitch.TeamOption, "outside"},
		"name of a bridge":     {pair(func(t *vswitch.Team) { t.Name = "pb-lan" }), vswitch.Invalid, "kept for"},
		"name of 16":           {pair(func(t *vswitch.Team) { t.Name = strings.Repeat("t", 16) }), vswitch.Invalid, "too long"},
		"name of the loopback": {pair(func(t *vswitch.Team) { t.Name = "lo" }), vswitch.Invalid, "kept for"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.team.Validate()
			if c.kind == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %s with %q", err, c.kind, c.says)
			}
		})
	}
}

func TestTeamValidateReportsAll(t *testing.T) {
	err := vswitch.Team{Name: "pbx", Mode: "lacp", Members: []string{"eth0", "eth0"}, Standby: "eth0", Primary: "eth0", Monitor: 5}.Validate()
	for _, kind := range []vswitch.Kind{vswitch.Invalid, vswitch.TeamMembers, vswitch.TeamStandby, vswitch.TeamOption} {
		if !errors.Is(err, kind) {
			t.Errorf("no %s in: %v", kind, err)
		}
	}
}

func TestTeamPreference(t *testing.T) {
	team := vswitch.Team{Name: "t", Members: []string{"a", "b", "c"}, Primary: "c"}.Normalized()
	if diff := cmp.Diff([]string{"c", "a", "b"}, team.Preference()); diff != "" {
		t.Error(diff)
	}
	aa := vswitch.Team{Name: "t", Mode: vswitch.TeamActiveActive, Members: []string{"a", "b", "c"}, Standby: "b"}.Normalized()
	if diff := cmp.Diff([]string{"a", "c"}, aa.Active()); diff != "" {
		t.Error(diff)
	}
}

func TestConfigValidatesTeams(t *testing.T) {
	two := func(name string, members ...string) vswitch.Team { return vswitch.Team{Name: name, Members: members} }
	for name, c := range map[string]struct {
		config vswitch.Config
		kind   vswitch.Kind
		field  string
	}{
		"one NIC in two teams": {vswitch.Config{Teams: []vswitch.Team{two("a", "eth0"), two("b", "eth1", "eth0")}}, vswitch.InUse, "teams[1].members[1]"},
		"twice":                {vswitch.Config{Teams: []vswitch.Team{two("a", "eth0"), two("a", "eth1")}}, vswitch.AlreadyExists, "teams[1].name"},
		"team in a team":       {vswitch.Config{Teams: []vswitch.Team{two("a", "eth0"), two("b", "a")}}, vswitch.TeamMember, "teams"},
		"member as uplink":     {vswitch.Config{Teams: []vswitch.Team{two("a", "eth0")}, Switches: []vswitch.Switch{{Name: "s", Uplink: "eth0"}}}, vswitch.UplinkInUse, "switches[0].uplink"},
		"place of a problem":   {vswitch.Config{Teams: []vswitch.Team{{Name: "a", Members: []string{"eth0"}, Hash: "x"}}}, vswitch.TeamOption, "teams[0].hash"},
	} {
		t.Run(name, func(t *testing.T) {
			c.config.Version = vswitch.ConfigVersion
			err := c.config.Validate()
			var e *vswitch.Error
			if !errors.Is(err, c.kind) || !errors.As(err, &e) || e.Field != c.field {
				t.Errorf("got %v at %v, want %s at %s", err, e, c.kind, c.field)
			}
		})
	}
}

func FuzzTeamJSON(f *testing.F) {
	f.Add([]byte(`{"name":"team0","mode":"lacp","members":["eth0","eth1"],"minLinks":1,"lacpRate":"slow"}`))
	f.Add([]byte(`{"name":"t","mode":"active-active","members":["a","b"],"standby":"b","monitor":50,"upDelay":100}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var team vswitch.Team
		if vswitch.UnmarshalStrict(data, &team) != nil || team.Validate() != nil {
			return
		}
		if err := team.Normalized().Validate(); err != nil {
			t.Fatalf("with its defaults it is not valid any more: %v", err)
		}
		if diff := cmp.Diff(team.Normalized(), team.Bare().Normalized()); diff != "" {
			t.Errorf("what is left out is no default:\n%s", diff)
		}
		if n := team.Normalized(); n.Mode == vswitch.TeamActiveStandby && n.Preference()[0] != n.Primary {
			t.Errorf("%v prefers %s", n, n.Preference()[0])
		}
		if _, err := json.Marshal(team); err != nil {
			t.Fatal(err)
		}
	})
}
