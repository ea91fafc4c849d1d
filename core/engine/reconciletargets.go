package engine

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// belongs notes whose a MAC address is.
func (r *reconciler) belongs(mac vswitch.MAC, netdev string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !mac.IsZero() {
		r.macs[mac] = netdev
	}
}

// disown forgets whose a MAC address was, unless it is another's by now.
func (r *reconciler) disown(mac vswitch.MAC, netdev string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.macs[mac] == netdev {
		delete(r.macs, mac)
	}
}

// remember keeps the names of netdevs that bear no mark of ours.
func (r *reconciler) remember(records []store.SwitchRecord, teams []store.TeamRecord, ports []vswitch.Port) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := make(map[string]string)
	if ports == nil { // only switches were read
		maps.Copy(kept, r.foreign)
		maps.DeleteFunc(kept, func(_, port string) bool { return port == "" })
	}
	for _, s := range records {
		if s.Uplink != "" {
			kept[s.Uplink] = ""
		}
	}
	for _, t := range teams {
		for _, m := range t.Members {
			kept[m] = ""
		}
	}
	for _, p := range ports {
		if p.Adopted {
			kept[p.Netdev] = p.ID
		}
	}
	r.foreign = kept
}

// targets are teams without a switch, switches and ports, each in order.
type targets struct{ teams, switches, ports []string }

// targets finds whose the netdevs are. What belongs to nobody is left for GC.
func (r *reconciler) targets(ctx context.Context, p pending) (t targets, err error) {
	caps, err := r.capabilities(ctx)
	if err != nil {
		return t, err
	}
	names := maps.Clone(p.netdevs)
	var records []store.SwitchRecord
	var teams []store.TeamRecord
	for _, object := range r.ledger.due() {
		switch kind, name, _ := strings.Cut(object, " "); kind {
		case "team":
			t.teams = append(t.teams, name)
		case "switch":
			t.switches = append(t.switches, name)
		case "port":
			id, _, _ := strings.Cut(name, " ")
			t.ports = append(t.ports, id)
		}
	}
	err = r.store.View(func(tx *store.Tx) error {
		if records, err = tx.Switches(); err != nil {
			return err
		}
		if teams, err = tx.Teams(); err != nil {
			return err
		}
		touchedTeams := t.touch(teams, records, names)
		for _, s := range records {
			touched := p.rules || touchedTeams[s.Uplink]
			was, _, err := tx.Realised(s.Name)
			if err != nil {
				return err
			}
			for _, name := range netdevsOf(wholeState(s, caps, extent{want: was.Segments})) {
				_, hit := names[name]
				touched = touched || hit
				delete(names, name)
			}
			if touched {
				t.switches = append(t.switches, s.Name)
			}
		}
		for name := range names {
			id := name
			if shaped, is := vswitch.ShapedPort(name); is {
				id = shaped
			} else if !strings.HasPrefix(name, "pb") { // somebody's tap
				p, found, err := tx.PortOfNetdev(name)
				if err != nil {
					return err
				}
				if found {
					id = p.ID
				}
			}
			t.ports = append(t.ports, id)
		}
		return nil
	})
	if err != nil {
		return t, err
	}
	r.ledger.fine(storeObject)
	r.remember(records, teams, nil)
	slices.Sort(t.teams)
	slices.Sort(t.switches)
	slices.Sort(t.ports)
	return targets{slices.Compact(t.teams), slices.Compact(t.switches), slices.Compact(t.ports)}, nil
}

// netdevsOf are the names of all that a state has in the host's namespace.
func netdevsOf(s plan.State) []string {
	names := slices.Collect(maps.Keys(s.Bridges))
	for name, b := range s.Bonds {
		names = append(names, name)
		for _, m := range b.Members {
			names = append(names, m.Name)
		}
	}
	for name, p := range s.Ports {
		names = append(names, name)
		if p.Endpoint != nil && p.Endpoint.Netns == "" {
			names = append(names, p.Endpoint.Name)
		}
	}
	return names
}
