package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// Options are how a plugin is tried.
type Options struct {
	// Config is the plugin's configuration, an object in JSON; nil for its defaults.
	Config []byte
	// Timeout is how long one check may take, by default a minute.
	Timeout time.Duration
	// OnResult is told each result as it comes.
	OnResult func(Result)
}

// Run tries a plugin and reports. It returns when everything was tried, or when ctx ended;
// what was not tried until then failed.
func Run(ctx context.Context, target Target, o Options) Report {
	r := runner{target: target, o: o}
	if r.o.Timeout == 0 {
		r.o.Timeout = time.Minute
	}
	if len(r.o.Config) == 0 {
		r.o.Config = []byte("{}")
	}
	report := Report{Protocol: sdk.ProtocolVersion}
	add := func(result Result) {
		report.Results = append(report.Results, result)
		if o.OnResult != nil {
			o.OnResult(result)
		}
	}
	add(r.try(ctx, check{name: "process/starts", run: r.survey}))
	if report.Results[0].Outcome == Failed {
		return report
	}
	report.Plugin = &r.description
	for _, c := range r.checks() {
		add(r.try(ctx, c))
	}
	return report
}

// Test tries a plugin as tests of their own, one for each check.
func Test(t *testing.T, target Target, o Options) {
	t.Helper()
	report := Run(t.Context(), target, o)
	for _, result := range report.Results {
		t.Run(result.Name, func(t *testing.T) {
			switch result.Outcome {
			case Failed:
				t.Error(result.Detail)
			case Skipped:
				t.Skip(result.Detail)
			}
		})
	}
}

// runner is one run.
type runner struct {
	target      Target
	o           Options
	description sdk.Description
	offers      []offer
	process     bool // it has one of its own
}

// offer is a feature that a NIC serves at this moment.
type offer struct {
	nic        string
	feature    vswitch.Feature
	capability vswitch.Capability
}

// free is how many ports it serves; many where nobody knows.
func (o offer) free() int {
	const many = 1 << 20
	if o.capability.Capacity < 0 || o.feature == vswitch.IPsec {
		return many
	}
	return o.capability.Capacity - o.capability.Foreign
}

// check is one thing that is tried, with a plugin that was started for it.
type check struct {
	name string
	run  func(*trial)
}

// stopped ends a check from within.
type stopped struct{ result Result }

// trial is a check that is under way.
type trial struct {
	session
	ctx    context.Context //nolint:containedctx // it is the check's
	runner *runner
	ports  int
	used   map[sdk.Ref]uint64 // what may be left to release, with the greatest generation
}

// fail ends the check.
func (t *trial) fail(format string, args ...any) {
	panic(stopped{Result{Outcome: Failed, Detail: fmt.Sprintf(format, args...)}})
}

// skip ends it too.
func (t *trial) skip(format string, args ...any) {
	panic(stopped{Result{Outcome: Skipped, Detail: fmt.Sprintf(format, args...)}})
}

// must ends the check with an error, and says what failed.
func (t *trial) must(err error, format string, args ...any) {
	if err != nil {
		t.fail("%s: %v", fmt.Sprintf(format, args...), err)
	}
}

func (r *runner) try(ctx context.Context, c check) (result Result) {
	ctx, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	begun := time.Now()
	t := &trial{ctx: ctx, runner: r, used: map[sdk.Ref]uint64{}}
	result = t.attempt(c)
	result.Name, result.Seconds = c.name, time.Since(begun).Seconds()
	return result
}

func (t *trial) attempt(c check) (result Result) {
	defer func() {
		if p := recover(); p != nil {
			s, ours := p.(stopped)
			if !ours {
				panic(p)
			}
			result = s.result
		}
		if t.session == nil {
			return
		}
		t.tidy()
		if why := t.failure(); why != "" && result.Outcome != Failed {
			result = Result{Outcome: Failed, Detail: why}
		}
		t.stop()
	}()
	t.begin()
	c.run(t)
	return Result{Outcome: Passed}
}

// begin starts the plugin.
func (t *trial) begin() {
	s, err := t.runner.target.start(t.ctx, t.runner.o.Config)
	t.must(err, "start")
	t.session = s
}

// restart ends the plugin and starts it again, by force or not.
func (t *trial) restart(force bool) {
	if why := t.failure(); why != "" {
		t.fail("%s", why)
	}
	s := t.session
	t.session = nil
	if force {
		s.crash()
	} else {
		s.stop()
	}
	t.begin()
}

// tidy releases what the check may have left.
func (t *trial) tidy() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), 10*time.Second)
	defer cancel()
	for ref, generation := range t.used {
		_ = t.Release(ctx, ref, generation) // a check of its own finds out whether it works
	}
}

// survey finds out what there is to try with.
func (r *runner) survey(t *trial) {
	d, err := t.Describe(t.ctx)
	t.must(err, "describe")
	r.description, r.process = d, t.pid() != 0
	inventory := t.inventory()
	for _, f := range vswitch.Features() {
		for _, nic := range inventory.NICs {
			c := nic.Capabilities.Of(f)
			o := offer{nic.ID, f, c}
			if c.Missing == "" && c != (vswitch.Capability{}) && o.free() > 0 {
				r.offers = append(r.offers, o)
				break
			}
		}
	}
}

// inventory is what the plugin tells first.
func (t *trial) inventory() sdk.Inventory {
	ctx, cancel := context.WithTimeout(t.ctx, 10*time.Second)
	defer cancel()
	enough := errors.New("enough")
	var first sdk.Inventory
	if err := t.WatchInventory(ctx, func(i sdk.Inventory) error { first = i; return enough }); !errors.Is(err, enough) {
		t.fail("no inventory came at once: %v", err)
	}
	return first
}

// request is a new port's for what is offered.
func (t *trial) request(o offer) sdk.Request {
	t.ports++
	r := sdk.Request{
		Ref: sdk.Ref{Port: fmt.Sprintf("conformance-%d", t.ports), Feature: o.feature}, NIC: o.nic, Generation: 10,
		MAC: vswitch.MAC{0x0a, 0x50, 0x42, 0xc0, byte(t.ports >> 8), byte(t.ports)}, MTU: vswitch.DefaultMTU, Owner: vswitch.OwnerContainer, Weight: vswitch.DefaultWeight,
	}
	switch o.feature {
	case vswitch.SRIOV:
		r.QueuePairs = 1
	case vswitch.IPsec:
		r.MaxSAs = vswitch.DefaultSAs
	}
	t.use(r)
	return r
}

// use notes what may have to be released.
func (t *trial) use(r sdk.Request) { t.used[r.Ref] = max(t.used[r.Ref], r.Generation) }

// ensure demands a grant.
func (t *trial) ensure(r sdk.Request) sdk.Grant {
	t.use(r)
	g, err := t.Ensure(t.ctx, r)
	t.must(err, "ensure %s, generation %d", r.Ref, r.Generation)
	return g
}

// listed is the grant as the plugin lists it, if it does.
func (t *trial) listed(ref sdk.Ref) (sdk.Grant, bool) {
	grants, err := t.Grants(t.ctx)
	t.must(err, "list grants")
	i := slices.IndexFunc(grants, func(g sdk.Grant) bool { return g.Ref == ref })
	if i < 0 {
		return sdk.Grant{}, false
	}
	return grants[i], true
}

// expect demands that a grant is listed as it was given.
func (t *trial) expect(g sdk.Grant) {
	got, listed := t.listed(g.Ref)
	if !listed {
		t.fail("%s was granted and is not listed", g.Ref)
	}
	if !same(got, g) {
		t.fail("%s was granted as %s and is listed as %s", g.Ref, show(g), show(got))
	}
}

// absent demands that there is no such grant.
func (t *trial) absent(ref sdk.Ref, why string) {
	if g, listed := t.listed(ref); listed {
		t.fail("%s is listed %s: %s", ref, why, show(g))
	}
}

func (t *trial) release(ref sdk.Ref, generation uint64) {
	t.must(t.Release(t.ctx, ref, generation), "release %s", ref)
}

// ours are the refs of all grants of this run's ports.
func (t *trial) ours() map[sdk.Ref]bool {
	grants, err := t.Grants(t.ctx)
	t.must(err, "list grants")
	found := map[sdk.Ref]bool{}
	for _, g := range grants {
		if _, used := t.used[g.Ref]; used {
			found[g.Ref] = true
		}
	}
	return found
}

func same(a, b sdk.Grant) bool {
	if (a.VF == nil) != (b.VF == nil) || a.VF != nil && *a.VF != *b.VF {
		return false
	}
	a.VF, b.VF = nil, nil
	return a == b
}

func show(g sdk.Grant) string {
	text := fmt.Sprintf("NIC %s, generation %d, queue %d, amount %d", g.NIC, g.Generation, g.Queue, g.Amount)
	if g.VF != nil {
		text += fmt.Sprintf(", VF %+v", *g.VF)
	}
	if g.Reason != "" {
		text += fmt.Sprintf(", %s (%s)", g.Reason, g.Detail)
	}
	return text
}

// refused demands an error of one of some kinds that says why.
func (t *trial) refused(err error, what string, kinds ...vswitch.Kind) {
	switch {
	case err == nil:
		t.fail("%s succeeds; it must fail with %v", what, kinds)
	case !slices.Contains(kinds, vswitch.KindOf(err)):
		t.fail("%s fails with %s (%v); it must fail with %v", what, vswitch.KindOf(err), err, kinds)
	}
}

// sorted are the names of refs, for messages.
func sorted(refs map[sdk.Ref]bool) []string {
	var names []string
	for ref := range maps.Keys(refs) {
		names = append(names, ref.String())
	}
	slices.Sort(names)
	return names
}
