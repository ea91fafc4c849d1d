package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

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
	// arrived are guests that have come from another host, by their switch.
	arrived map[string][]plan.AnnounceMACs
	// relieving are teams whose standby waits to change places.
	relieving map[string]bool
	troubles  map[string]struggle // by team
	reliefs   sync.WaitGroup

	teams map[string]bearing // as they were last; of the herald alone
	again []repetition
}

// repetition is an announcement that is due once more, since links of real switches
// forward late, or a look at a team that could not be looked at.
type repetition struct {
	at         time.Time
	switchName string
	guests     map[guestVLAN]bool // nil for all
	team       string
}

type guestVLAN struct {
	mac  vswitch.MAC
	vlan int
}

// repetitions are when guests are announced again after they have moved.
func repetitions() []time.Duration { return []time.Duration{100 * time.Millisecond, time.Second} }

func newHerald(e *Engine, log *slog.Logger, l *ledger) *herald {
	h := &herald{Engine: e, log: log, ledger: l, wake: make(chan struct{}, 1), teams: make(map[string]bearing)}
	h.troubles = make(map[string]struggle)
	h.stirred, h.moved, h.relieving = make(map[string]bool), make(map[string]bool), make(map[string]bool)
	h.arrived = make(map[string][]plan.AnnounceMACs)
	return h
}

// note takes an event of the kernel's watch and must be quick.
func (h *herald) note(e kernel.Event) {
	if e.Team != "" || e.Change == kernel.Lost {
		h.stir(e.Team)
	}
}

// stir has a team looked at, or with "" all.
func (h *herald) stir(team string) {
	h.mu.Lock()
	h.stirred[team] = true
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

// guestArrived has guests announced again a little later, as they have been once.
func (h *herald) guestArrived(switchName string, announced []plan.AnnounceMACs) {
	h.mu.Lock()
	h.arrived[switchName] = append(h.arrived[switchName], announced...)
	h.mu.Unlock()
	h.rouse()
}

func (h *herald) rouse() { rouse(h.wake) }

func (h *herald) take() (stirred, moved map[string]bool, arrived map[string][]plan.AnnounceMACs) {
	h.mu.Lock()
	defer h.mu.Unlock()
	stirred, moved, arrived = h.stirred, h.moved, h.arrived
	h.stirred, h.moved, h.arrived = make(map[string]bool), make(map[string]bool), make(map[string][]plan.AnnounceMACs)
	return stirred, moved, arrived
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
	defer h.reliefs.Wait()
	for ctx.Err() == nil {
		due, stop := h.due()
		select {
		case <-ctx.Done():
		case <-h.wake:
		case <-due:
		}
		stop()
		stirred, moved, arrived := h.take()
		for _, name := range h.named(stirred) {
			h.look(ctx, name)
		}
		for name := range moved {
			h.repeat(name, nil)
		}
		for name, announced := range arrived {
			if len(announced) > 0 {
				h.repeat(name, announced)
			}
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
		h.later(repetition{at: time.Now().Add(firstRetry), team: name})
		return
	}
	if err == nil {
		h.relieve(ctx, r, state)
	}
	was, known := h.teams[name]
	now := bearing{carriage(r.Team, state), state.Members, r.Standby}
	if known && was.Equal(now.Carriage) {
		return
	}
	switchName, err := h.switchOn(name)
	if err != nil {
		h.log.Warn("a team's switch cannot be found", "team", name, "err", err)
		h.later(repetition{at: time.Now().Add(firstRetry), team: name})
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
		h.later(repetition{at: now.Add(after), switchName: switchName, guests: guests})
	}
}

// later has something done at its time.
func (h *herald) later(r repetition) {
	h.again = append(h.again, r)
	slices.SortStableFunc(h.again, func(a, b repetition) int { return a.at.Compare(b.at) })
}

func (h *herald) repeatDue(ctx context.Context) {
	now := time.Now()
	for len(h.again) > 0 && !h.again[0].at.After(now) {
		next := h.again[0]
		h.again = h.again[1:]
		if next.team != "" {
			h.look(ctx, next.team)
			continue
		}
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
