package engine

import (
	"fmt"
	"slices"

	"github.com/patchbay-net/patchbay/core/plan"
)

// driftWords says in words what had changed, from the steps that put it right and
// what was observed before.
func driftWords(steps []plan.Step, observed plan.State) []string {
	var words []string
	made := make(map[string]bool) // netdevs that were gone: all else about them follows
	for _, step := range steps {
		for _, w := range stepWords(step, observed, made) {
			if !slices.Contains(words, w) {
				words = append(words, w)
			}
		}
	}
	return words
}

func stepWords(step plan.Step, observed plan.State, made map[string]bool) []string {
	said := func(format string, args ...any) []string { return []string{fmt.Sprintf(format, args...)} }
	switch s := step.(type) {
	case plan.CreateBridge:
		return said("bridge %s was gone", s.Bridge.Name)
	case plan.SetBridge:
		return bridgeWords(s.Bridge, observed.Bridges[s.Bridge.Name])
	case plan.CreateVeth:
		made[s.Port.Name] = true
		return said("netdev %s was gone", s.Port.Name)
	case plan.SetPort:
		if made[s.Port.Name] {
			return nil
		}
		have, there := observed.Ports[s.Port.Name]
		if !there {
			return said("netdev %s was gone", s.Port.Name)
		}
		return portWords(s.Port, have)
	case plan.SetLimits:
		if made[s.Port] {
			return nil
		}
		return said("%s was not limited as it should be", s.Port)
	case plan.AddFDB:
		if made[s.Port] {
			return nil
		}
		return said("forwarding entry %s of %s was gone", s.MAC, s.Port)
	case plan.SetRules:
		switch {
		case s.Add.Base:
			return said("the nftables tables were gone, or not whole")
		case s.Add.GuardBase:
			return said("the nftables table of guards was gone, or not whole")
		case s.Add.ACLBase:
			return said("the nftables table of ACLs was gone, or not whole")
		case !s.Add.Empty():
			return said("nftables rules were gone")
		}
		return said("there were nftables rules too many")
	case plan.SetSettings:
		return said("netdev %s had other settings", s.Netdev)
	case plan.SetForwarding:
		return said("IP forwarding was off")
	case plan.MakeMirror:
		return said("what copies the frames of %s was gone, or not whole", s.Netdev)
	case plan.DeleteMirror:
		return said("the frames of %s were copied", s.Netdev)
	case plan.MakeShares:
		return said("%s was not shared as it should be", s.Netdev)
	case plan.SetShares:
		return said("%s was shared in other parts, or runs at another speed", s.Netdev)
	case plan.DeleteShares:
		return said("%s was shared by what is gone", s.Netdev)
	case plan.MakeSpread:
		return said("the nftables table of team %s was gone, or not whole", s.Spread.Team)
	case plan.SetDesignated:
		return designationWords(s.Spread, observed.Spreads[s.Spread.Team])
	case plan.CreateBond:
		made[s.Bond.Name] = true
		return said("team %s was gone", s.Bond.Name)
	}
	if words := bondWords(step, observed, made); words != nil {
		return words
	}
	return endpointWords(step, made)
}

// designationWords tell of a designated member that lost its link, and of sets that
// somebody has changed.
func designationWords(want, have plan.Spread) []string {
	if want.Designated == have.Designated {
		return []string{fmt.Sprintf("team %s heard what is for all by other members than %s", want.Team, orNone(want.Designated))}
	}
	return []string{fmt.Sprintf("team %s heard what is for all by %s instead of %s", want.Team, orNone(have.Designated), orNone(want.Designated))}
}

func bondWords(step plan.Step, observed plan.State, made map[string]bool) []string {
	var bond, word string
	switch s := step.(type) {
	case plan.SetBond:
		bond, word = s.Bond.Name, "had other settings, or was down: "+s.Words()
	case plan.SetPrimary:
		bond, word = s.Bond, fmt.Sprintf("preferred %s", orNone(observed.Bonds[s.Bond].Options.Primary))
	case plan.AddMember:
		bond, word = s.Bond, fmt.Sprintf("had lost member %s", s.Member.Name)
	case plan.RemoveMember:
		bond, word = s.Bond, fmt.Sprintf("had %s for a member", s.Member.Name)
	case plan.HoldMember:
		bond, word = s.Bond, fmt.Sprintf("lacked its standby %s, which was down or in something", s.Member.Name)
	case plan.SetMember:
		bond, word = s.Bond, "had its members in another order"
	default:
		return nil
	}
	if made[bond] {
		return nil
	}
	return []string{"team " + bond + " " + word}
}

func endpointWords(step plan.Step, made map[string]bool) []string {
	var at plan.At
	var word string
	switch s := step.(type) {
	case plan.SetEndpoint:
		at, word = plan.At{Port: s.Port, Name: s.Endpoint.Name}, "had other settings, or was down"
	case plan.AddAddress:
		at, word = s.At, fmt.Sprintf("had lost address %s", s.Address.Prefix)
	case plan.AddRoute:
		at, word = s.At, fmt.Sprintf("had lost the route to %s", s.Route.Dst)
	case plan.DeleteNetdev:
		at, word = plan.At{Port: s.Name, Name: s.Name}, "had lost its other end"
	default:
		return nil
	}
	if made[at.Port] {
		return nil
	}
	return []string{at.Name + " " + word}
}

func bridgeWords(want, have plan.Bridge) []string {
	var words []string
	differs := func(differs bool, format string, args ...any) {
		if differs {
			words = append(words, "bridge "+want.Name+" "+fmt.Sprintf(format, args...))
		}
	}
	differs(want.Up && !have.Up, "was down")
	differs(want.MTU != have.MTU, "had MTU %d instead of %d", have.MTU, want.MTU)
	differs(want.MAC != have.MAC, "had MAC address %s instead of %s", have.MAC, want.MAC)
	differs(want.Alias != have.Alias, "had another alias")
	differs(want.STP != have.STP, "had STP on")
	differs(want.ForwardDelay != have.ForwardDelay, "had a forward delay")
	differs(want.Snooping != have.Snooping, "had multicast snooping on")
	differs(want.DefaultPVID != have.DefaultPVID, "had a default PVID")
	differs(want.LinkLocal != have.LinkLocal, "had IPv6 of its own")
	return words
}

func portWords(want, have plan.Port) []string {
	var words []string
	differs := func(differs bool, format string, args ...any) {
		if differs {
			words = append(words, want.Name+" "+fmt.Sprintf(format, args...))
		}
	}
	differs(want.Bridge != have.Bridge && have.Bridge == "", "was out of its bridge")
	differs(want.Bridge != have.Bridge && have.Bridge != "", "was in bridge %s", have.Bridge)
	differs(want.Up && !have.Up, "was down")
	differs(want.MTU != have.MTU, "had MTU %d instead of %d", have.MTU, want.MTU)
	differs(!want.MAC.IsZero() && want.MAC != have.MAC, "had MAC address %s instead of %s", have.MAC, want.MAC)
	differs(want.Alias != "" && want.Alias != have.Alias, "had another alias")
	differs(want.Group != 0 && want.Group != have.Group, "was in another group")
	if want.Bridge != have.Bridge {
		return words
	}
	for _, f := range []struct {
		name       string
		want, have bool
	}{
		{"learning", want.Learning, have.Learning},
		{"flood", want.Flood, have.Flood},
		{"locked", want.Locked, have.Locked},
		{"isolated", want.Isolated, have.Isolated},
		{"broadcast flood", !want.NoBroadcast, !have.NoBroadcast},
		{"multicast flood", !want.NoMulticast, !have.NoMulticast},
	} {
		state := "off"
		if f.have {
			state = "on"
		}
		differs(f.want != f.have, "had flag %s %s", f.name, state)
	}
	return words
}
