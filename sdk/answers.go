package sdk

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// What a plugin answers is held against the contract before anything believes it.

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

func checkDescription(d Description) error {
	var found []error
	if !nameForm.MatchString(d.Name) {
		found = append(found, fmt.Errorf("name %.40q is not lower-case letters, digits and '-'", d.Name))
	}
	found = append(found, checkText("vendor", d.Vendor, maxID), checkText("version", d.Version, maxID))
	if len(d.Features) == 0 {
		found = append(found, errors.New("no feature is served"))
	}
	for i, f := range d.Features {
		if !slices.Contains(vswitch.Features(), f) || slices.Contains(d.Features[:i], f) {
			found = append(found, fmt.Errorf("feature %.32q is unknown, or named twice", f))
		}
	}
	if err := errors.Join(append(found, d.Schema.Validate())...); err != nil {
		return lie("describe", "%w", err)
	}
	return nil
}

func checkInventory(i Inventory) error {
	const op = "watch inventory"
	if len(i.NICs) > maxNICs {
		return lie(op, "%d NICs", len(i.NICs))
	}
	seen := map[string]bool{}
	for _, n := range i.NICs {
		if n.ID == "" || seen[n.ID] {
			return lie(op, "NIC %.80q without an id, or twice", n.ID)
		}
		seen[n.ID] = true
		if err := errors.Join(checkText("id", n.ID, maxID), checkText("driver", n.Driver, maxID), checkText("model", n.Model, maxID), checkNetdev(n.Netdev)); err != nil {
			return lie(op, "NIC %.80q: %w", n.ID, err)
		}
		for _, f := range vswitch.Features() {
			if err := checkCapability(n.Capabilities.Of(f)); err != nil {
				return lie(op, "%s of NIC %s: %w", f, n.ID, err)
			}
		}
	}
	return nil
}

func checkCapability(c vswitch.Capability) error {
	switch {
	case c.Capacity < vswitch.Unlimited || c.Foreign < 0 || c.QueuePairs < 0:
		return errors.New("a number is below 0")
	case c.Missing != "" && c != vswitch.Capability{Missing: c.Missing}:
		return fmt.Errorf("it is missing (%s), and has a capacity", c.Missing)
	case c.Capacity >= 0 && c.Foreign > c.Capacity:
		return fmt.Errorf("others hold %d of %d", c.Foreign, c.Capacity)
	}
	return nil
}

func checkNetdev(name string) error {
	if name == "" {
		return nil
	}
	return vswitch.ValidateNetdevName(name)
}

// checkGrant holds a grant against itself.
func checkGrant(op string, g Grant) error {
	if err := errors.Join(g.Validate(), checkText("nic", g.NIC, maxID), checkText("detail", g.Detail, maxText)); err != nil {
		return lie(op, "a grant: %w", err)
	}
	if g.NIC == "" || g.Queue < 0 || g.Amount < 0 || (g.VF != nil) != (g.Feature == vswitch.SRIOV) {
		return lie(op, "%s: NIC %q, queue %d, amount %d, VF %v", g.Ref, g.NIC, g.Queue, g.Amount, g.VF)
	}
	if g.SAsHeld < 0 || g.SAsHeld > g.SAs || g.SAs != 0 && g.Feature != vswitch.IPsec {
		return lie(op, "%s: %d of %d SAs", g.Ref, g.SAsHeld, g.SAs)
	}
	if g.VF == nil {
		return nil
	}
	if err := errors.Join(checkText("PCI address", g.VF.PCIAddr, maxID), checkNetdev(g.VF.Netdev)); err != nil || g.VF.Index < 0 {
		return lie(op, "%s: VF %+v: %w", g.Ref, *g.VF, err)
	}
	return nil
}

// checkGranted holds a grant against what was asked for.
func checkGranted(r Request, g Grant) error {
	const op = "ensure"
	if err := checkGrant(op, g); err != nil {
		return err
	}
	if g.Ref != r.Ref || g.NIC != r.NIC || g.Generation != r.Generation {
		return lie(op, "%s on NIC %s of generation %d was asked for, and %s on %s of %d given", r.Ref, r.NIC, r.Generation, g.Ref, g.NIC, g.Generation)
	}
	most := g.Amount // of SAs the NIC may hold more than it may by now
	switch r.Feature {
	case vswitch.SRIOV:
		most = max(1, r.QueuePairs)
	case vswitch.VMQ:
		most = 1
	}
	if g.Amount > most {
		return lie(op, "%d was asked for, and %d given", most, g.Amount)
	}
	return nil
}

func checkGrants(grants []Grant) error {
	const op = "list grants"
	if len(grants) > maxGrants {
		return lie(op, "%d grants", len(grants))
	}
	type place struct { // of a VF or a queue
		nic     string
		feature vswitch.Feature
		n       int
	}
	seen, taken := map[Ref]bool{}, map[place]Ref{}
	for _, g := range grants {
		if err := checkGrant(op, g); err != nil {
			return err
		}
		if seen[g.Ref] {
			return lie(op, "%s twice", g.Ref)
		}
		seen[g.Ref] = true
		at := place{g.NIC, g.Feature, g.Queue}
		if g.VF != nil {
			at.n = g.VF.Index
		} else if g.Queue == 0 { // of IPsec, or not told
			continue
		}
		if other, is := taken[at]; is {
			return lie(op, "%s and %s are both number %d of NIC %s", other, g.Ref, at.n, g.NIC)
		}
		taken[at] = g.Ref
	}
	return nil
}

func checkEvent(e Event) error {
	const op = "watch events"
	if err := errors.Join(checkText("nic", e.NIC, maxID), checkText("detail", e.Detail, maxText)); err != nil {
		return lie(op, "%w", err)
	}
	if e.Kind != NICReset {
		if err := e.Ref.Validate(); err != nil {
			return lie(op, "%s: %w", e.Kind, err)
		}
	} else if e.NIC == "" {
		return lie(op, "%s of no NIC", e.Kind)
	}
	return nil
}

func checkCounters(counters map[string]uint64) error {
	const most = 4096
	if len(counters) > most {
		return lie("read counters", "%d counters", len(counters))
	}
	for name := range counters {
		if err := checkText("counter", name, maxID); err != nil {
			return lie("read counters", "%w", err)
		}
	}
	return nil
}
