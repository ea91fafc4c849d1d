package engine

import (
	"fmt"
	"strings"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file judges what teams need of the host.

// bonding is silent while nobody wants a team and the kernel may still load the module.
func (x examination) bonding() []Finding {
	f := feature{check: "bonding", what: "teams of NICs", symbols: "CONFIG_BONDING", modules: []string{"bonding"}}
	finding := Finding{Severity: Fine, Check: f.check, What: "the kernel can do " + f.what}
	if !x.caps.Bonding {
		finding = Finding{Severity: Note, Check: f.check, What: "the kernel cannot do " + f.what, Why: "teams are refused", Mend: x.getting(f)}
		if len(x.teams) > 0 {
			var names []string
			for _, t := range x.teams {
				names = append(names, t.Name)
			}
			finding.Severity, finding.Why = Blocks, fmt.Sprintf("teams %s need it", strings.Join(names, ", "))
		}
	}
	return []Finding{finding}
}

// startDaemon is the command that runs patchbayd.
const startDaemon = "systemctl enable --now patchbayd.socket patchbayd.service"

// announcements are patchbayd's: nobody else is there when a member fails.
func (x examination) announcements() (all []Finding) {
	if x.resident {
		return nil
	}
	for _, t := range x.teams {
		for _, r := range x.records {
			if r.Uplink != t.Name || t.Mode.Grouped() {
				continue
			}
			all = append(all, Finding{
				Severity: Warning, Check: "announcements", What: fmt.Sprintf("patchbayd does not run: nobody announces the guests of switch %s after a failover of team %s", r.Name, t.Name),
				Why: "guests that are silent are out of reach until somebody asks for them by broadcast", Mend: []string{startDaemon},
			})
		}
	}
	return all
}

// standbys are relieved by patchbayd.
func (x examination) standbys() (all []Finding) {
	for _, t := range x.teams {
		if t.Standby != "" && !x.resident {
			all = append(all, Finding{
				Severity: Warning, Check: "standby", What: fmt.Sprintf("patchbayd does not run: standby %s of team %s does not take over by itself", t.Standby, t.Name),
				Why: "when another member fails the others have to do, until a command repairs the team", Mend: []string{startDaemon},
			})
		}
	}
	return all
}

// unannounced is what Status says of the same.
func unannounced(t TeamStatus) Problem {
	return Problem{
		Kind: vswitch.TeamDegraded, Message: fmt.Sprintf("team %s: after a failover nobody announces the guests of switch %s, since patchbayd does not run", t.Name, t.Switch),
		Hint: "run `" + startDaemon + "`, or `patchbayd`",
	}
}
