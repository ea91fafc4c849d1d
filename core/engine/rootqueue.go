package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file tells of root queues that somebody else has given uplinks: the classes by which
// ports share an uplink take their place. What such a queue was made of only who made it knows,
// and so it is named and not put back.

// replacedFact keeps, by netdev, the root queues that classes have taken the place of.
const replacedFact = "replacedQueues"

// perform applies steps, and remembers the root queues that they replace.
func (e *Engine) perform(ctx context.Context, steps []plan.Step) error {
	replaced := make(map[string]string)
	for _, s := range steps {
		if made, is := s.(plan.MakeShares); is && made.Replaces != "" {
			replaced[made.Netdev] = made.Replaces
		}
	}
	if len(replaced) > 0 {
		err := e.store.Update(func(tx *store.Tx) error {
			all := make(map[string]string)
			if _, err := tx.Fact(replacedFact, &all); err != nil {
				return err
			}
			maps.Copy(all, replaced)
			return tx.PutFact(replacedFact, all)
		})
		if err != nil {
			return err
		}
	}
	return e.kernel.Apply(ctx, steps)
}

// rootQueue is what became of somebody's root queue of a netdev.
type rootQueue struct {
	netdev   string
	switches string // whose uplink it is; "" of one that is none any more
	has      string // the queue that is there
	had      string // the one that classes have taken the place of
	shared   bool   // the classes are there
}

// rootQueues are those of uplinks, and of netdevs that were some when they lost theirs.
func (e *Engine) rootQueues(ctx context.Context) (all []rootQueue, err error) {
	of, had := make(map[string]string), make(map[string]string)
	scope := plan.State{Shares: make(map[string]plan.Sharing)}
	err = e.store.View(func(tx *store.Tx) error {
		if _, err := tx.Fact(replacedFact, &had); err != nil {
			return err
		}
		records, err := tx.Switches()
		if err != nil {
			return err
		}
		for _, r := range records {
			if r.Uplink == "" || r.MinBandwidth.Mode.Effective() == vswitch.BandwidthNone {
				continue
			}
			s, err := sharedState(tx, r)
			if err != nil {
				return err
			}
			for netdev := range s.Shares {
				of[netdev] = r.Name
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, netdev := range slices.Concat(slices.Collect(maps.Keys(of)), slices.Collect(maps.Keys(had))) {
		scope.Shares[netdev] = plan.Sharing{}
	}
	seen, err := e.kernel.Observe(ctx, scope)
	for _, netdev := range slices.Sorted(maps.Keys(seen.Shares)) {
		s := seen.Shares[netdev]
		q := rootQueue{netdev: netdev, switches: of[netdev], has: s.Queue, had: had[netdev], shared: s.Tree != nil}
		if q.words() != "" {
			all = append(all, q)
		}
	}
	return all, err
}

// words tell what there is to know, "" for nothing.
func (q rootQueue) words() string {
	switch {
	case q.has != "" && q.switches != "":
		return fmt.Sprintf("%s has a root queue that somebody gave it (%s): the first minimum of bandwidth on switch %s takes its place", q.netdev, q.has, q.switches)
	case q.has != "" || q.had == "":
		return ""
	case q.shared:
		return fmt.Sprintf("minimums of bandwidth have taken the place of the root queue that somebody gave %s (%s)", q.netdev, q.had)
	}
	return fmt.Sprintf("%s does not have the root queue that somebody gave it (%s): minimums of bandwidth took its place, and are gone", q.netdev, q.had)
}

func (q rootQueue) hint() string {
	if q.shared || q.has != "" {
		return "have a switch without minimums (`--min-bandwidth-mode none`) there, or do without that queue"
	}
	return fmt.Sprintf("give it another one, like `tc qdisc replace dev %s root ...`, as it was", q.netdev)
}

// judgeQueues warns of root queues that classes have taken the place of.
func (e *Engine) judgeQueues(ctx context.Context, s *Status) error {
	all, err := e.rootQueues(ctx)
	for _, q := range all {
		if q.has == "" {
			s.Problems = append(s.Problems, Problem{Kind: vswitch.Conflict, Message: q.words(), Hint: q.hint()})
		}
	}
	return fault("status", "", err)
}

// rootQueues are silent on a host where nobody has given uplinks any.
func (x examination) rootQueues() (all []Finding) {
	for _, q := range x.queues {
		all = append(all, Finding{Severity: Warning, Check: "root queue", What: q.words(), Why: "a netdev has one", Mend: []string{q.hint()}})
	}
	return all
}
