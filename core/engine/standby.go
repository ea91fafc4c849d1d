package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file is about the one member of an active/active team that stands by: Linux has no
// such thing. It is out of the bond, up and silent, while all other members have a link,
// and a member like them while one has none. Where it is to be follows from the record and
// from the links alone, so that whoever looks next, after whatever, decides the same.

// missed says what active members of a team with a standby lack, in words; "" is nothing,
// and then the standby stands by. A member that is not in the bond yet is taken to have a
// link unless it is known to have none: only when it is up can that be known.
func (e *Engine) missed(ctx context.Context, t vswitch.Team, state kernel.TeamState) (why string, err error) {
	if t.Standby == "" {
		return "", nil
	}
	var words []string
	for _, m := range t.Active() {
		if at := slices.IndexFunc(state.Members, func(s kernel.MemberState) bool { return s.Name == m }); at >= 0 {
			switch {
			case !state.Members[at].Up:
				words = append(words, m+" is down")
			case !state.Members[at].Link:
				words = append(words, m+" has no link")
			}
			continue
		}
		switch nic, err := e.kernel.Netdev(ctx, m); {
		case errors.Is(err, vswitch.NotFound):
			words = append(words, m+" is not on the host")
		case err != nil:
			return "", err
		case nic.Up && !nic.Carrier:
			words = append(words, m+" has no link")
		}
	}
	return strings.Join(words, ", "), nil
}

// standsIn is missed of the team as it is in the kernel.
func (e *Engine) standsIn(ctx context.Context, t vswitch.Team) (why string, err error) {
	if t.Standby == "" {
		return "", nil
	}
	state, err := e.kernel.Team(ctx, t.Name)
	if err != nil && !errors.Is(err, vswitch.NotFound) {
		return "", err
	}
	return e.missed(ctx, t, state)
}

// standbyIn reports that the standby of a team is to be in it, or is, to who only looks: that
// it has to change places is no drift, and judgeStandby tells of it.
func (e *Engine) standbyIn(ctx context.Context, t *transaction, team vswitch.Team) (bool, error) {
	if !t.looks || team.Standby == "" {
		why, err := e.standsIn(ctx, team)
		return why != "", err
	}
	state, err := e.kernel.Team(ctx, team.Name)
	if errors.Is(err, vswitch.NotFound) {
		err = nil
	}
	return inTeam(state, team.Standby), err
}

// silence keeps a standby quiet, as far as this kernel has the settings.
func silence(desired *plan.State, r store.TeamRecord, there func(nic string) bool) {
	quiet := plan.Silence()
	for name := range quiet {
		if _, has := r.StandbyHad[name]; !has {
			delete(quiet, name)
		}
	}
	setStandby(desired, r.Standby, quiet, there)
}

// unsilence gives a NIC that is no standby any more its settings back.
func unsilence(desired *plan.State, was store.TeamRecord, there func(nic string) bool) {
	setStandby(desired, was.Standby, was.StandbyHad, there)
}

func setStandby(desired *plan.State, nic string, settings map[string]string, there func(nic string) bool) {
	if len(settings) > 0 && there(nic) {
		*desired = plan.Union(*desired, plan.State{Hosts: map[string]plan.Addressing{nic: {Settings: settings}}})
	}
}

// noteStandby notes what a NIC is before it becomes the standby. The team cannot have its
// address: that NIC is up with it beside the team.
func (e *Engine) noteStandby(ctx context.Context, r, old *store.TeamRecord) error {
	if old != nil && old.Standby == r.Standby {
		return nil
	}
	r.StandbyHad = nil
	if r.Standby == "" {
		return nil
	}
	nic, err := e.kernel.Netdev(ctx, r.Standby)
	if errors.Is(err, vswitch.NotFound) {
		return nil // a former member that is gone
	}
	a, err2 := e.kernel.Addressing(ctx, r.Standby)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	r.StandbyHad = make(map[string]string)
	for name := range plan.Silence() {
		if value, has := a.Settings[name]; has {
			r.StandbyHad[name] = value
		}
	}
	mac := nic.MAC
	if state, err := e.kernel.Team(ctx, nic.Master); err == nil {
		for _, m := range state.Members {
			if m.Name == nic.Name {
				mac = m.MAC
			}
		}
	}
	if mac != r.MAC {
		return nil
	}
	return &vswitch.Error{
		Kind: vswitch.TeamStandby, Err: fmt.Errorf("%s cannot stand by: the team has its MAC address %s, and two NICs of one network would have it", nic.Name, mac),
		Hint: fmt.Sprintf("name another member, or delete the team and make it again with --standby %s: it takes another member's address then", nic.Name),
	}
}

// relieve has the standby of a team change places if it has to, as soon as no verb is at
// work. It does not wait for that: there are guests to be announced.
func (h *herald) relieve(ctx context.Context, r store.TeamRecord, state kernel.TeamState) {
	why, err := h.missed(ctx, r.Team, state)
	if err == nil && (why != "") == inTeam(state, r.Standby) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.relieving[r.Name] || time.Now().Before(h.troubles[r.Name].until) {
		return // somebody waits already, and looks again before he does anything; or will
	}
	h.relieving[r.Name] = true
	go h.standbyMoved(ctx, r) // see begins
}

// begins tells that whoever has waited for his turn to move a standby may do so, and ends
// with done. Where the engine has ended meanwhile he may not, and nobody waits for him:
// whoever has the lock may be another process, which may take long.
func (h *herald) begins(team string) (done func(), may bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.relieving, team)
	if h.ended {
		return nil, false
	}
	h.reliefs.Add(1)
	return h.reliefs.Done, true
}

// end waits for those who have begun.
func (h *herald) end() {
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	h.reliefs.Wait()
}

// standbyMoved moves the standby of a team if it has to be moved, and tells of it. A team in a
// dispute stays as it is: see changePlaces.
func (h *herald) standbyMoved(ctx context.Context, r store.TeamRecord) {
	unlock, err := h.lockAlone()
	if err == nil {
		defer unlock()
	}
	done, may := h.begins(r.Name)
	if !may {
		return
	}
	defer done()
	why, moved := "", false
	if err == nil {
		why, moved, err = h.changePlaces(context.WithoutCancel(ctx), r.Name)
	}
	h.relieved(r, err)
	switch {
	case err != nil:
	case moved && why == "":
		h.log.Info("the standby stands by", "team", r.Name, "standby", r.Standby, "why", "all others have their links")
	case moved:
		h.log.Info("the standby takes over", "team", r.Name, "standby", r.Standby, "why", why)
	}
}

// struggle is that of a standby which cannot change places.
type struggle struct {
	tries int
	until time.Time // no try before
}

// relieved notes how a try to move the standby ended. One that failed is tried again later,
// and later still the next time: what it did to the NIC is an event like those that it waits for.
func (h *herald) relieved(r store.TeamRecord, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		delete(h.troubles, r.Name)
		return
	}
	t := h.troubles[r.Name]
	t.tries++
	wait := backoff(t.tries)
	t.until = time.Now().Add(wait)
	h.troubles[r.Name] = t
	if t.tries == 1 {
		h.log.Warn("the standby cannot change places", "team", r.Name, "standby", r.Standby, "err", err)
	}
	time.AfterFunc(wait, func() { h.stir(r.Name) })
}

func inTeam(state kernel.TeamState, nic string) bool {
	return slices.ContainsFunc(state.Members, func(m kernel.MemberState) bool { return m.Name == nic })
}

// changePlaces puts the standby of a team where it is to be, and does nothing else: what
// else is not as it should be is drift, and a verb that was killed is ended by the next
// one. It returns why the standby stands in, or "", and whether it was moved. The caller
// holds the lock of all switches.
func (e *Engine) changePlaces(ctx context.Context, team string) (why string, moved bool, err error) {
	var r store.TeamRecord
	var was store.RealisedTeam
	err = e.store.View(func(tx *store.Tx) (err error) {
		if r, err = tx.Team(team); err == nil {
			was, _, err = tx.RealisedTeam(team)
		}
		return err
	})
	if errors.Is(err, vswitch.NotFound) || err == nil && (was.Name == "" || was.Changing) {
		return "", false, nil
	}
	if err == nil {
		why, err = e.standsIn(ctx, r.Team)
	}
	if err != nil {
		return "", false, err
	}
	on, err := e.standing(team)
	if err != nil {
		return "", false, err
	}
	t := &transaction{}
	for i := range on.on {
		t.changes = append(t.changes, change{new: &on.on[i]})
	}
	desired, observed, err := e.places(ctx, t, r, why != "")
	if err != nil {
		return "", false, err
	}
	steps := plan.Diff(desired, observed)
	if err := e.kernel.Apply(ctx, steps); err != nil {
		return "", false, err
	}
	return why, len(steps) > 0, e.queryGuests(ctx, t, steps)
}

// places are a team's bond and table as they are, and as they are to be with the standby
// in or out.
func (e *Engine) places(ctx context.Context, t *transaction, r store.TeamRecord, standsIn bool) (desired, observed plan.State, err error) {
	_, err = e.kernel.Netdev(ctx, r.Standby)
	there := !errors.Is(err, vswitch.NotFound)
	whole := teamState(r, r.MTU, standsIn, func(nic string) bool { return nic != r.Standby || there })
	desired.Bonds = map[string]plan.Bond{r.Name: whole}
	if err := e.placeSpread(ctx, t, []store.TeamRecord{r}, &desired, &plan.State{}); err != nil {
		return desired, observed, err
	}
	desired.Rules = plan.Rules{} // the guests' addresses stay
	if observed, err = e.kernel.Observe(ctx, desired); err != nil {
		return desired, observed, err
	}
	if have, made := observed.Spreads[r.Name]; !made || have.Altered {
		delete(desired.Spreads, r.Name)
	}
	bond, made := observed.Bonds[r.Name]
	if !made {
		return plan.State{}, plan.State{}, nil
	}
	bond.Held = whole.Held
	bond.Members = slices.DeleteFunc(slices.Clone(bond.Members), func(m plan.Member) bool { return m.Name == r.Standby })
	for _, m := range whole.Members {
		if m.Name == r.Standby {
			bond.Members = append(bond.Members, m)
		}
	}
	desired.Bonds = map[string]plan.Bond{r.Name: bond}
	return desired, observed, nil
}

// announceRelieved announces the guests of switches on a team whose standby has changed
// places in a transaction, where no herald does it.
func (e *Engine) announceRelieved(ctx context.Context, t *transaction, steps []plan.Step) {
	if e.resident.Load() != nil {
		return
	}
	told := make(map[string]bool)
	for _, step := range steps {
		team := ""
		switch s := step.(type) {
		case plan.AddMember:
			team = s.Bond
		case plan.HoldMember:
			team = s.Bond
		}
		changed := slices.ContainsFunc(t.teams, func(c teamChange) bool { return c.old != nil && c.name() == team }) // see announceChanged
		for _, r := range t.news() {
			if r.Spread && r.Uplink == team && !changed && !told[r.Name] {
				e.announceMoved(ctx, r.Name)
				told[r.Name] = true
			}
		}
	}
}

// judgeStandby completes a team's status with what is known of its standby, and returns
// what keeps it from taking over.
func (e *Engine) judgeStandby(ctx context.Context, s *TeamStatus) (degraded []string, err error) {
	if s.Standby == "" {
		return nil, nil
	}
	if e.resident.Load() == nil {
		degraded = append(degraded, fmt.Sprintf("standby %s takes over only while patchbayd runs, and patchbayd does not run", s.Standby))
	}
	why, err := e.missed(ctx, s.Team, *s.State)
	if err != nil {
		return nil, err
	}
	if inTeam(*s.State, s.Standby) {
		if s.StandsIn = why; why == "" {
			degraded = append(degraded, fmt.Sprintf("standby %s is still among the others, which all have a link again", s.Standby))
		}
		return degraded, nil
	}
	if why != "" {
		degraded = append(degraded, fmt.Sprintf("standby %s has not taken over", s.Standby))
	}
	nic, err := e.kernel.Netdev(ctx, s.Standby)
	if errors.Is(err, vswitch.NotFound) {
		return append(degraded, fmt.Sprintf("standby %s is not on the host", s.Standby)), nil
	}
	if err != nil {
		return nil, err
	}
	s.State.Members = append(s.State.Members, kernel.MemberState{
		Name: nic.Name, MAC: nic.MAC, Up: nic.Up, Link: nic.Up && nic.Carrier, Speed: nic.Speed, Held: true,
	})
	if !nic.Up || !nic.Carrier {
		degraded = append(degraded, fmt.Sprintf("standby %s has no link", s.Standby))
	}
	bond, err := e.kernel.Netdev(ctx, s.Name)
	if err == nil && nic.MaxMTU != 0 && nic.MaxMTU < bond.MTU {
		degraded = append(degraded, fmt.Sprintf("standby %s can do an MTU of %d, and the team has %d: it cannot take over", s.Standby, nic.MaxMTU, bond.MTU))
	}
	return degraded, err
}
