package store

import (
	"fmt"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// TeamRecord is a team as the configuration keeps it: the user's definition and what
// was decided when it was made.
type TeamRecord struct {
	vswitch.Team
	// MAC is the team's address, that of its first member when it was made: it stays the
	// same whatever becomes of that.
	MAC vswitch.MAC `json:"mac"`
	// MTU is that of the team while no switch is on it.
	MTU int `json:"mtu"`
	// Down lists members that were down when they joined: they are so again when they
	// leave.
	Down []string `json:"down,omitempty"`
	// StandbyHad are settings of the standby that Patchbay keeps otherwise while it stands
	// by, as they were.
	StandbyHad map[string]string `json:"standbyHad,omitempty"`
	// Going says that a verb began to delete the team.
	Going   bool      `json:"going,omitempty"`
	Created time.Time `json:"created"`
}

// teamPrefix begins the keys of teams among the settings: files written before there
// were teams have a table of settings, and none of teams.
const teamPrefix = "team\x00"

// Team returns a team, or an error of kind vswitch.NotFound.
func (tx *Tx) Team(name string) (r TeamRecord, err error) {
	t, err := tx.configTable(settingTable)
	if err != nil {
		return r, err
	}
	found, err := t.load(teamPrefix+name, &r)
	if err == nil && !found {
		err = &vswitch.Error{
			Kind: vswitch.NotFound, Object: "team " + name,
			Err: fmt.Errorf("no such team"), Hint: "`patchbay team list` shows those that exist",
		}
	}
	return r, err
}

// Teams returns all teams, sorted by name.
func (tx *Tx) Teams() (all []TeamRecord, err error) {
	t, err := tx.configTable(settingTable)
	if err != nil {
		return nil, err
	}
	err = t.walk(teamPrefix, teamPrefix, func(row row) error {
		var r TeamRecord
		err := t.decode(row.body, &r)
		all = append(all, r)
		return err
	})
	return all, err
}

// PutTeam stores a team, new or changed. It needs UpdateConfig.
func (tx *Tx) PutTeam(r TeamRecord) error {
	if err := checkKey("team", r.Name); err != nil {
		return err
	}
	t, err := tx.configTable(settingTable)
	if err != nil {
		return err
	}
	return t.store(teamPrefix+r.Name, r)
}

// DeleteTeam removes a team, which need not exist. It needs UpdateConfig.
func (tx *Tx) DeleteTeam(name string) error {
	t, err := tx.configTable(settingTable)
	if err != nil {
		return err
	}
	return t.remove(teamPrefix + name)
}

// RealisedTeam says what the kernel has of a team since the boot: what its record says,
// or, while Changing, no more than that and what the team's record says now.
type RealisedTeam struct {
	TeamRecord
	Changing bool `json:"changing,omitempty"`
}

func realisedTeamKey(name string) string { return "team\x00" + name }

// RealisedTeam returns what PutRealisedTeam stored for the team since the boot.
func (tx *Tx) RealisedTeam(name string) (r RealisedTeam, found bool, err error) {
	found, err = tx.run.table(factTable).load(realisedTeamKey(name), &r)
	return r, found, err
}

// PutRealisedTeam is called when a team is as its record says, and with Changing set
// before it is changed.
func (tx *Tx) PutRealisedTeam(r RealisedTeam) error {
	if err := checkKey("team", r.Name); err != nil {
		return err
	}
	return tx.run.table(factTable).store(realisedTeamKey(r.Name), r)
}

// DropRealisedTeam is called when a team is gone.
func (tx *Tx) DropRealisedTeam(name string) error {
	return tx.run.table(factTable).remove(realisedTeamKey(name))
}
