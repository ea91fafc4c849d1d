package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Failover is a change of the members that carry a team's traffic.
type Failover struct {
	Time time.Time `json:"time"`
	From []string  `json:"from"` // the members that carried before
	To   []string  `json:"to"`   // those that do since
	Why  string    `json:"why"`
	// Announced is how many guests the network was told of, on another member.
	Announced int `json:"announced"`
}

// herald tells the network outside by which member of a team guests are reached, when
// that changes: bonding itself speaks for its own address alone, and a guest that is
// silent stays unreachable until somebody asks for him by broadcast. It sleeps until the
// kernel tells of a member, or until an announcement is due again.
type herald struct {
	*Engine
	log    *slog.Logger
	ledger *ledger
	wake   chan struct{}

	mu      sync.Mutex
	stirred map[string]bool // teams to look at; "" for all
	moved   map[string]bool // switches whose uplink was changed

	teams map[string]bearing // as they were last; of the herald alone
	again []repetition
}

// bearing is how a team was.
type bearing struct {
	plan.Carriage
	members []kernel.MemberState
}

// repetition is an announcement that is due once more: links of real switches forward
// late.
type repetition struct {
	at         time.Time
	switchName string
	guests     map[guestVLAN]bool
}

type guestVLAN struct {
	mac  vswitch.MAC
	vlan int
}

// repetitions are when guests are announced again after they have moved.
func repetitions() []time.Duration { return []time.Duration{100 * time.Millisecond, time.Second} }

func newHerald(e *Engine, log *slog.Logger, l *ledger) *herald {
	h := &herald{Engine: e, log: log, ledger: l, wake: make(chan struct{}, 1), teams: make(map[string]bearing)}
	h.stirred, h.moved = make(map[string]bool), make(map[string]bool)
	return h
}

// note takes an event of the kernel's watch and must be quick.
func (h *herald) note(e kernel.Event) {
	if e.Team == "" && e.Change != kernel.Lost {
		return
	}
	h.mu.Lock()
	h.stirred[e.Team] = true
	h.mu.Unlock()
	h.rouse()
}

// uplinkMoved has the guests of a switch announced again a little later: whoever changed
// its uplink has done so once.
func (h *herald) uplinkMoved(switchName string) {
	h.mu.Lock()
	h.moved[switchName] = true
	h.mu.Unlock()
	h.rouse()
}

func (h *herald) rouse() {
	select {
	case h.wake <- struct{}{}:
	default: // it is awake
	}
}

func (h *herald) take() (stirred, moved map[string]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	stirred, moved = h.stirred, h.moved
	h.stirred, h.moved = make(map[string]bool), make(map[string]bool)
	return stirred, moved
}

// lookAll learns how the teams are. It announces all guests: nobody has seen what happened
// before.
func (h *herald) lookAll(ctx context.Context) {
	for _, name := range h.named(map[string]bool{"": true}) {
		h.look(ctx, name)
	}
}

// run is the herald's life.
func (h *herald) run(ctx context.Context) {
	for ctx.Err() == nil {
		due, stop := h.due()
		select {
		case <-ctx.Done():
		case <-h.wake:
		case <-due:
		}
		stop()
		stirred, moved := h.take()
		for _, name := range h.named(stirred) {
			h.look(ctx, name)
		}
		for name := range moved {
			h.repeat(name, nil)
		}
		h.repeatDue(ctx)
	}
}

// due is the timer of the next repetition. Without any there is none.
func (h *herald) due() (<-chan time.Time, func() bool) {
	if len(h.again) == 0 {
		return nil, func() bool { return false }
	}
	timer := time.NewTimer(time.Until(h.again[0].at))
	return timer.C, timer.Stop
}

// named are the teams that were stirred, in order.
func (h *herald) named(stirred map[string]bool) []string {
	names := maps.Clone(stirred)
	if names[""] {
		delete(names, "")
		records, err := h.teamRecords()
		if err != nil {
			h.log.Warn("teams cannot be looked at", "err", err)
		}
		for _, r := range records {
			names[r.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// look finds out whether a team shares its traffic in another way than before, and does
// what follows from it.
func (h *herald) look(ctx context.Context, name string) {
	r, err := h.teamRecord(name)
	if errors.Is(err, vswitch.NotFound) {
		delete(h.teams, name) // deleted, or never ours
		return
	}
	var state kernel.TeamState
	if err == nil {
		state, err = h.kernel.Team(ctx, name)
	}
	if err != nil && !errors.Is(err, vswitch.NotFound) {
		h.log.Warn("a team cannot be looked at", "team", name, "err", err)
		return
	}
	was, known := h.teams[name]
	now := bearing{carriage(r.Team, state), state.Members}
	if known && was.Equal(now.Carriage) {
		return
	}
	switchName, err := h.switchOn(name)
	if err != nil {
		h.log.Warn("a team's switch cannot be found", "team", name, "err", err)
		return
	}
	h.designated(ctx, r, switchName)
	f := plan.FailOver(was.Carriage, now.Carriage, h.guests(switchName))
	now.Carriage = f.Now
	h.teams[name] = now
	announced := h.announce(ctx, f.Announce)
	if announced > 0 {
		h.repeat(switchName, f.Announce)
	}
	if known && !slices.Equal(was.carriers(), now.carriers()) {
		h.failedOver(name, was, now, announced)
	}
}

func (h *herald) failedOver(name string, was, now bearing, announced int) {
	f := Failover{Time: h.now(), From: was.carriers(), To: now.carriers(), Why: why(was.members, now.members), Announced: announced}
	h.ledger.failedOver(name, f)
	h.log.Info("failover", "team", name, "from", strings.Join(f.From, ","), "to", strings.Join(f.To, ","), "why", f.Why, "announced", announced)
}

// carriage is what a failover is decided from.
func carriage(t vswitch.Team, state kernel.TeamState) plan.Carriage {
	c := plan.Carriage{Mode: t.Mode, Active: state.Active}
	for _, m := range state.Members {
		c.Members = append(c.Members, m.Name)
		if m.Link && (m.InUse || t.Mode != vswitch.TeamLACP) {
			c.Up = append(c.Up, m.Name)
		}
	}
	return c
}

// carriers are the members that carry traffic.
func (b bearing) carriers() []string {
	switch {
	case b.Mode != vswitch.TeamActiveStandby:
		return append([]string{}, b.Up...)
	case b.Active == "":
		return []string{}
	}
	return []string{b.Active}
}

// why says in words what has happened to members: of losses first, since the rest
// follows from those.
func why(was, now []kernel.MemberState) string {
	var lost, found, chosen []string
	for _, m := range was {
		at := slices.IndexFunc(now, func(n kernel.MemberState) bool { return n.Name == m.Name })
		switch {
		case at < 0:
			lost = append(lost, m.Name+" left the team")
		case m.Link && !now[at].Up:
			lost = append(lost, m.Name+" was taken down")
		case m.Link && !now[at].Link:
			lost = append(lost, m.Name+" lost its link")
		case m.InUse && !now[at].InUse:
			chosen = append(chosen, m.Name+" is not in use any more")
		case !m.Link && now[at].Link:
			found = append(found, m.Name+" has its link back")
		case !m.InUse && now[at].InUse:
			chosen = append(chosen, m.Name+" was chosen")
		}
	}
	for _, n := range now {
		if !slices.ContainsFunc(was, func(m kernel.MemberState) bool { return n.Name == m.Name }) {
			found = append(found, n.Name+" joined the team")
		}
	}
	for _, words := range [][]string{lost, found, chosen} {
		if len(words) > 0 {
			return strings.Join(words, ", ")
		}
	}
	return "its definition was changed"
}

// repeat has guests announced again; nil stands for all of the switch.
func (h *herald) repeat(switchName string, announced []plan.AnnounceMACs) {
	var guests map[guestVLAN]bool
	for _, a := range announced {
		for _, g := range a.Guests {
			for _, vlan := range g.VLANs {
				if guests == nil {
					guests = make(map[guestVLAN]bool)
				}
				guests[guestVLAN{g.MAC, vlan}] = true
			}
		}
	}
	now := time.Now()
	for _, after := range repetitions() {
		h.again = append(h.again, repetition{now.Add(after), switchName, guests})
	}
	slices.SortStableFunc(h.again, func(a, b repetition) int { return a.at.Compare(b.at) })
}

func (h *herald) repeatDue(ctx context.Context) {
	now := time.Now()
	for len(h.again) > 0 && !h.again[0].at.After(now) {
		next := h.again[0]
		h.again = h.again[1:]
		steps, err := h.announcements(ctx, next.switchName, func(g plan.Guest, vlan int) bool {
			return next.guests == nil || next.guests[guestVLAN{g.MAC, vlan}]
		})
		if err != nil && !errors.Is(err, vswitch.NotFound) {
			h.log.Warn("guests cannot be announced again", "switch", next.switchName, "err", err)
		}
		h.announce(ctx, steps)
	}
}

// guests are those of a switch without what takes long to find out: a lookup that fails
// leaves them to speak for themselves.
func (h *herald) guests(switchName string) []plan.Guest {
	if switchName == "" {
		return nil
	}
	guests, err := h.guestsOf(switchName)
	if err != nil {
		h.log.Warn("guests cannot be announced", "switch", switchName, "err", err)
	}
	return guests
}

// announce sends what is to be sent and returns how many guests that concerned.
func (h *herald) announce(ctx context.Context, what []plan.AnnounceMACs) (guests int) {
	for _, a := range what {
		guests += len(a.Guests)
	}
	if err := h.kernel.Apply(ctx, announcing(what)); err != nil {
		h.log.Warn("guests cannot be announced", "err", fmt.Sprint(err))
	}
	return guests
}

func announcing(what []plan.AnnounceMACs) (steps []plan.Step) {
	for _, a := range what {
		steps = append(steps, a)
	}
	return steps
}
