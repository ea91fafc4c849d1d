package conformance

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// checks are all that is tried, in order.
func (r *runner) checks() []check {
	all := []check{
		{"describe/complete", describeComplete},
		{"configure/twice", configureTwice},
		{"configure/unknown key", configureUnknown},
		{"inventory/every watcher", inventoryEveryWatcher},
		{"inventory/features", r.inventoryFeatures},
	}
	for _, f := range r.description.Features {
		for _, c := range []struct {
			name string
			run  func(*trial, offer)
		}{
			{"ensure", ensureTwice},
			{"ensure newer", ensureNewer},
			{"ensure late", ensureLate},
			{"ensure unknown NIC", ensureUnknownNIC},
			{"ensure invalid", ensureInvalid},
			{"release", releaseTwice},
			{"release late", releaseLate},
			{"release unknown", releaseUnknown},
			{"capacity", capacity},
			{"in parallel", inParallel},
			{"restart", func(t *trial, o offer) { restarts(t, o, false) }},
			{"crash", func(t *trial, o offer) { restarts(t, o, true) }},
			{"callers that go away", goneCallers},
			{"leaks", leaks},
			{"path", switchPath},
			{"counters", counters},
		} {
			all = append(all, check{string(f) + "/" + c.name, r.offered(f, c.run)})
		}
	}
	if len(r.description.Features) > 1 {
		all = append(all, check{"features apart", r.featuresApart})
	}
	all = append(all,
		check{"feature that is not served", r.unserved},
		check{"extensions/probe", r.probe},
		check{"extensions/events", r.events},
	)
	if r.process {
		all = append(all, check{"process/ends", processEnds})
	}
	return all
}

// offered runs a check with a NIC that serves the feature.
func (r *runner) offered(f vswitch.Feature, run func(*trial, offer)) func(*trial) {
	return func(t *trial) {
		i := slices.IndexFunc(r.offers, func(o offer) bool { return o.feature == f })
		if i < 0 {
			t.skip("no NIC with free %s is there to try it with", f)
		}
		run(t, r.offers[i])
	}
}

func describeComplete(t *trial) {
	d, err := t.Describe(t.ctx)
	t.must(err, "describe")
	if d.Vendor == "" || d.Version == "" {
		t.fail("vendor %q or version %q is empty", d.Vendor, d.Version)
	}
	again, err := t.Describe(t.ctx)
	t.must(err, "describe again")
	if !reflect.DeepEqual(d, again) {
		t.fail("it describes itself as %+v, and then as %+v", d, again)
	}
}

func configureTwice(t *trial) {
	for range 2 {
		t.must(configure(t.ctx, t.session, t.runner.o.Config), "configure")
	}
	t.inventory()
}

// The host holds configurations against the schema, so this is about plugins that do it by
// themselves, without package sdk.
func configureUnknown(t *trial) {
	err := t.Configure(t.ctx, sdk.Config{"noSuchSetting": 1})
	t.refused(err, "a key that the schema does not have", vswitch.Invalid)
	t.must(configure(t.ctx, t.session, t.runner.o.Config), "configure after that")
}

func inventoryEveryWatcher(t *trial) {
	ids := func(i sdk.Inventory) (all []string) {
		for _, n := range i.NICs {
			all = append(all, n.ID)
		}
		slices.Sort(all)
		return all
	}
	first, second := ids(t.inventory()), ids(t.inventory())
	if !slices.Equal(first, second) {
		t.fail("one watcher is told of %v, another of %v", first, second)
	}
}

func (r *runner) inventoryFeatures(t *trial) {
	for _, n := range t.inventory().NICs {
		for _, f := range vswitch.Features() {
			if c := n.Capabilities.Of(f); c != (vswitch.Capability{}) && c.Missing == "" && !slices.Contains(r.description.Features, f) {
				t.fail("NIC %s has %s, and the description does not", n.ID, f)
			}
		}
	}
}

func ensureTwice(t *trial, o offer) {
	r := t.request(o)
	t.absent(r.Ref, "before it was ensured")
	g := t.ensure(r)
	t.expect(g)
	if again := t.ensure(r); !same(g, again) {
		t.fail("the same request is granted as %s, and then as %s", show(g), show(again))
	}
	t.expect(g)
}

func ensureNewer(t *trial, o offer) {
	r := t.request(o)
	t.ensure(r)
	r.Generation++
	r.VLAN = 42
	g := t.ensure(r)
	t.expect(g)
	t.release(r.Ref, r.Generation)
	t.absent(r.Ref, "after its release")
}

func ensureLate(t *trial, o offer) {
	r := t.request(o)
	g := t.ensure(r)
	late := r
	late.Generation--
	_, err := t.Ensure(t.ctx, late)
	t.refused(err, "a request that is older than the grant", vswitch.Conflict)
	t.expect(g)
}

func ensureUnknownNIC(t *trial, o offer) {
	r := t.request(o)
	r.NIC = "no-such-nic"
	_, err := t.Ensure(t.ctx, r)
	t.refused(err, "a NIC that there is not", vswitch.NotFound)
	t.absent(r.Ref, "after a request that failed")
}

func ensureInvalid(t *trial, o offer) {
	for what, change := range map[string]func(*sdk.Request){
		"no port":             func(r *sdk.Request) { r.Port = "" },
		"a feature unknown":   func(r *sdk.Request) { r.Feature = "teleport" },
		"no MAC address":      func(r *sdk.Request) { r.MAC = vswitch.MAC{} },
		"a multicast address": func(r *sdk.Request) { r.MAC[0] |= 1 },
		"VLAN 4095":           func(r *sdk.Request) { r.VLAN = 4095 },
		"an owner unknown":    func(r *sdk.Request) { r.Owner = "nobody" },
	} {
		r := t.request(o)
		change(&r)
		_, err := t.Ensure(t.ctx, r)
		t.refused(err, what, vswitch.Invalid, vswitch.Range, vswitch.VLANRange, vswitch.MACInvalid)
		t.absent(r.Ref, "after a request that failed")
	}
}

func releaseTwice(t *trial, o offer) {
	r := t.request(o)
	t.ensure(r)
	t.release(r.Ref, r.Generation)
	t.absent(r.Ref, "after its release")
	t.release(r.Ref, r.Generation)
	t.ensure(r)
}

func releaseLate(t *trial, o offer) {
	r := t.request(o)
	g := t.ensure(r)
	t.release(r.Ref, r.Generation-1)
	t.expect(g)
	t.release(r.Ref, r.Generation+1)
	t.absent(r.Ref, "after a release of a later generation")
}

func releaseUnknown(t *trial, o offer) {
	t.release(sdk.Ref{Port: "conformance-nobody", Feature: o.feature}, 1)
}

// mostPorts is how many ports a check makes to come to the end of a capacity.
const mostPorts = 300

func capacity(t *trial, o offer) {
	if o.feature == vswitch.IPsec {
		r := t.request(o)
		if g := t.ensure(r); o.capability.Capacity >= 0 && g.Amount > o.capability.Capacity {
			t.fail("the NIC may hold %d SAs of one port, and has room for %d", g.Amount, o.capability.Capacity)
		}
		return
	}
	if o.free() > mostPorts {
		t.skip("the NIC serves %d ports; it is tried with up to %d", o.free(), mostPorts)
	}
	var requests []sdk.Request
	for range o.free() {
		r := t.request(o)
		t.ensure(r)
		t.ensure(r) // nothing is spent twice
		requests = append(requests, r)
	}
	more := t.request(o)
	_, err := t.Ensure(t.ctx, more)
	what := fmt.Sprintf("port %d on a NIC that serves %d", o.free()+1, o.free())
	t.refused(err, what, vswitch.CapabilityMissing)
	if reason := sdk.ReasonOf(err); reason != vswitch.NoFreeVF && reason != vswitch.NoFreeFilter {
		t.fail("%s is refused with reason %q (%v); it must be %s or %s", what, reason, err, vswitch.NoFreeVF, vswitch.NoFreeFilter)
	}
	t.absent(more.Ref, "after a request that failed")
	t.release(requests[0].Ref, requests[0].Generation)
	t.ensure(more)
}

func inParallel(t *trial, o offer) {
	var group sync.WaitGroup
	n := min(8, o.free())
	grants, errs := make([]sdk.Grant, 2*n), make([]error, 2*n)
	for i := range n {
		r := t.request(o)
		for j := range 2 {
			group.Go(func() { grants[2*i+j], errs[2*i+j] = t.Ensure(t.ctx, r) })
		}
	}
	group.Wait()
	places := map[string]sdk.Ref{}
	for i, g := range grants {
		t.must(errs[i], "ensure")
		t.expect(g)
		place := fmt.Sprint("queue ", g.Queue)
		if g.VF != nil {
			place = fmt.Sprint("VF ", g.VF.Index)
		}
		if other, taken := places[place]; taken && other != g.Ref && o.feature != vswitch.IPsec {
			t.fail("%s of NIC %s is both %s and %s", place, o.nic, other, g.Ref)
		}
		places[place] = g.Ref
	}
}

func restarts(t *trial, o offer, force bool) {
	r := t.request(o)
	g := t.ensure(r)
	t.restart(force)
	if after, listed := t.listed(r.Ref); listed && !same(g, after) {
		t.fail("before the restart there was %s, and after it %s", show(g), show(after))
	}
	t.expect(t.ensure(r))
	t.release(r.Ref, r.Generation)
	t.restart(force)
	t.absent(r.Ref, "after its release and a restart")
	t.release(r.Ref, r.Generation)
}

// goneCallers calls with ever less impatience: calls end at all points on their way.
func goneCallers(t *trial, o offer) {
	r := t.request(o)
	for wait := time.Duration(0); wait < 20*time.Millisecond; wait += 500 * time.Microsecond {
		t.impatiently(wait, r)
	}
	t.expect(t.ensure(r))
	t.release(r.Ref, r.Generation)
	t.absent(r.Ref, "after its release")
	if o.feature != vswitch.IPsec && o.free() <= mostPorts {
		for range o.free() { // nothing of the capacity was lost on the way
			t.ensure(t.request(o))
		}
	}
}

func leaks(t *trial, o offer) {
	r := t.request(o)
	round := func() {
		t.ensure(r)
		t.inventory()
		t.release(r.Ref, r.Generation)
		_, _ = t.Ensure(t.ctx, sdk.Request{}) // what fails leaks most
	}
	for range 5 {
		round()
	}
	before := openFiles(t.pid())
	const rounds = 40
	for range rounds {
		round()
	}
	if after := openFiles(t.pid()); after > before+rounds/4 {
		t.fail("%d files were open, and after %d rounds of ensure, watch and release %d", before, rounds, after)
	}
	if left := t.ours(); len(left) > 0 {
		t.fail("after everything was released there are %v", sorted(left))
	}
}
