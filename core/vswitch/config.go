package vswitch

import (
	"errors"
	"fmt"
)

// ConfigVersion is the version of Config that this Patchbay reads and writes.
const ConfigVersion = 1

// MaxConfigTeams bounds a configuration, far above what a host has.
const MaxConfigTeams = 256

// MaxConfigSwitches bounds a configuration, far above what a host has
// and far below the 65535 numbers that there are for switches.
const MaxConfigSwitches = 4096

// Config is what a host is to have, whole: what `patchbay apply` reads and
// `patchbay export` writes. A team or switch that it defines is as its definition says,
// with the default of each field that is left out.
type Config struct {
	Version int `json:"version"`
	// MACPool is the range of dynamic addresses; nil leaves it as it is.
	MACPool  *MACRange `json:"macPool,omitempty"`
	Teams    []Team    `json:"teams,omitempty"`
	Switches []Switch  `json:"switches,omitempty"`
}

// Validate reports every problem of the configuration, each an Error whose Field
// is the path to the value. Besides what is wrong in each switch it finds what two
// of them cannot share: a name, an uplink, a subnet.
func (c Config) Validate() error {
	var p problems
	switch {
	case c.Version == 0:
		p.found(Invalid, "", "the version is missing; begin with \"version: %d\"", ConfigVersion).in("version")
	case c.Version != ConfigVersion:
		p.found(Invalid, "", "version %d is unknown; this Patchbay reads version %d", c.Version, ConfigVersion).in("version")
	}
	if c.MACPool != nil {
		p.within("macPool", c.MACPool.Validate())
	}
	if n := len(c.Switches); n > MaxConfigSwitches {
		p.found(Invalid, "", "%d switches, the limit is %d", n, MaxConfigSwitches).in("switches")
		return p.join()
	}
	if n := len(c.Teams); n > MaxConfigTeams {
		p.found(Invalid, "", "%d teams, the limit is %d", n, MaxConfigTeams).in("teams")
		return p.join()
	}
	for i, t := range c.Teams {
		p.within(fmt.Sprintf("teams[%d]", i), t.Validate())
	}
	c.validateTeams(&p)
	for i, s := range c.Switches {
		p.within(fmt.Sprintf("switches[%d]", i), s.Validate())
	}
	c.validateShared(&p)
	return p.join()
}

// within adds the problems of a part of the definition, which lies at path.
func (p *problems) within(path string, err error) {
	if err == nil {
		return
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		if _, one := err.(*Error); !one { //nolint:errorlint // an Error unwraps to its kind and cause, a joined one to its parts
			for _, e := range many.Unwrap() {
				p.within(path, e)
			}
			return
		}
	}
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Kind: Invalid, Err: err}
	}
	placed := *e
	placed.in(path)
	if e.Field != "" {
		placed.in(path + "." + e.Field)
	}
	*p = append(*p, &placed)
}

// validateShared finds what one switch has and another may not have too.
func (c Config) validateShared(p *problems) {
	names, uplinks := make(map[string]bool), make(map[string]string)
	for i, s := range c.Switches {
		object := "switch " + s.Name
		if names[s.Name] && s.Name != "" {
			p.found(AlreadyExists, object, "is defined twice").in(fmt.Sprintf("switches[%d].name", i))
			continue
		}
		names[s.Name] = true
		if other, taken := uplinks[s.Uplink]; taken && s.Uplink != "" {
			p.found(UplinkInUse, object, "NIC %s is the uplink of switch %s too; one NIC carries one switch", s.Uplink, other).in(fmt.Sprintf("switches[%d].uplink", i))
		} else {
			uplinks[s.Uplink] = s.Name
		}
		c.validateSubnets(p, i)
	}
}

// validateTeams finds what a team shares with another one or with a switch.
func (c Config) validateTeams(p *problems) {
	names, members := make(map[string]bool), make(map[string]string)
	for i, t := range c.Teams {
		object := "team " + t.Name
		if names[t.Name] && t.Name != "" {
			p.found(AlreadyExists, object, "is defined twice").in(fmt.Sprintf("teams[%d].name", i))
			continue
		}
		names[t.Name] = true
		for k, m := range t.Members {
			if other, taken := members[m]; taken && other != t.Name {
				p.found(InUse, object, "NIC %s is a member of team %s too", m, other).in(fmt.Sprintf("teams[%d].members[%d]", i, k))
				continue
			}
			members[m] = t.Name
		}
	}
	for _, t := range c.Teams {
		if holder, nested := members[t.Name]; nested {
			p.found(TeamMember, "team "+holder, "%s is a team itself, and teams have NICs for members", t.Name).in("teams")
		}
	}
	for i, s := range c.Switches {
		if team, member := members[s.Uplink]; member && s.Uplink != "" {
			p.found(UplinkInUse, "switch "+s.Name, "NIC %s is a member of team %s; name the team as the uplink", s.Uplink, team).in(fmt.Sprintf("switches[%d].uplink", i))
		}
	}
}

// validateSubnets compares the gateways of one switch with those before it.
func (c Config) validateSubnets(p *problems, i int) {
	s := c.Switches[i]
	for k, ours := range s.Gateway {
		for _, other := range c.Switches[:i] {
			for _, theirs := range other.Gateway {
				if other.Name != s.Name && ours.Overlaps(theirs) {
					p.found(Conflict, "switch "+s.Name, "gateway %s overlaps %s of switch %s; the host could route to one of them alone", ours, theirs, other.Name).
						in(fmt.Sprintf("switches[%d].gateway[%d]", i, k))
				}
			}
		}
	}
}
