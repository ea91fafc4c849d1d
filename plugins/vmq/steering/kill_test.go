package steering

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/kernel/ethtool"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// killed is what the fake panics with: nothing after it happens, as after kill -9.
type killed struct{}

// dying does something, which is interrupted as Fake.Interrupt says, and reports whether it
// died of it. Then its file is let go of, as the kernel does.
func (b *bench) dying(do func(), before func(int) error, after func(int)) (died bool) {
	b.fake.Interrupt(before, after)
	defer b.fake.Interrupt(nil, nil)
	defer func() {
		if cause := recover(); cause != nil {
			if _, ours := cause.(killed); !ours {
				panic(cause)
			}
			died = true
			b.stop()
			<-b.watched
			b.ledger.close()
		}
	}()
	do()
	return false
}

// story is all that changes a NIC.
func (b *bench) story() {
	b.ensure(request(1))
	r := request(2)
	r.VLAN = 42
	b.ensure(r)
	r.Generation, r.VLAN = 2, 43
	b.ensure(r)
	b.release(1)
	b.release(2)
}

// Wherever the plugin is killed, the next one knows what ports hold, can give and take all
// of it, and puts the NIC back.
func TestKilledAtAnyStep(t *testing.T) {
	for name, kill := range map[string]func(at int) (func(int) error, func(int)){
		"before": func(at int) (func(int) error, func(int)) {
			return func(n int) error {
				if n == at {
					panic(killed{})
				}
				return nil
			}, nil
		},
		"after": func(at int) (func(int) error, func(int)) {
			return nil, func(n int) {
				if n == at {
					panic(killed{})
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			steps := 0
			for at := 1; ; at++ {
				n := usual()
				n.Rules.All = []ethtool.Rule{{Location: 0, Queue: 1}}
				n.NTuple.On = at%2 == 0
				b := newBench(t, n)
				before, after := kill(at)
				if !b.dying(b.story, before, after) {
					steps = at - 1
					break
				}
				b.start()
				for _, g := range b.grants() {
					var port, queue int
					if _, err := fmt.Sscanf(g, "p%d %d", &port, &queue); err != nil {
						t.Fatal(err)
					}
					found := false
					for _, r := range b.fake.NIC("eth0").Rules.All {
						found = found || r.MAC == request(port).MAC && r.Queue == queue
					}
					if !found {
						t.Errorf("step %d: %s is granted, and there is no rule", at, g)
					}
				}
				b.release(1)
				b.release(2)
				b.story()
				n.Table = ownTable(16, 8)
				n.NTuple.On = true // off, the other's rule would be lost
				b.checkBack(n, at)
			}
			if steps < 10 {
				t.Errorf("died at %d steps only", steps)
			}
		})
	}
}

// checkBack demands that a NIC is as it was found, and nothing is on file.
func (b *bench) checkBack(n ethtool.FakeNIC, step int) {
	b.t.Helper()
	b.expect(n)
	if len(b.ledger.nics) > 0 {
		b.t.Errorf("on file: %+v", b.ledger.nics)
	}
	if b.t.Failed() {
		b.t.Fatalf("step %d", step)
	}
}

// Whatever the driver refuses, a call that fails leaves nothing, and the NIC can be put
// back.
func TestFailuresAtAnyStep(t *testing.T) {
	for at, steps := 1, true; steps; at++ {
		b := newBench(t, usual())
		failed := 0
		b.fake.Interrupt(func(n int) error {
			if n == at {
				return unix.EIO
			}
			return nil
		}, nil)
		for _, r := range []sdk.Request{request(1), request(2)} {
			g, err := b.Ensure(t.Context(), r)
			if err != nil {
				failed++
				if sdk.ReasonOf(err) != vswitch.Refused {
					t.Errorf("step %d: %v", at, err)
				}
			}
			if want := err == nil; want != (g.Port != "") {
				t.Errorf("step %d: granted %+v with %v", at, g, err)
			}
		}
		for _, n := range []int{1, 2} {
			err := b.Release(t.Context(), request(n).Ref, 100)
			if err != nil {
				failed++
				err = b.Release(t.Context(), request(n).Ref, 100)
			}
			if err != nil {
				t.Errorf("step %d: release again: %v", at, err)
			}
		}
		steps = failed > 0
		if grants := b.grants(); len(grants) > 0 {
			t.Errorf("step %d: left: %v", at, grants)
		}
		n := usual()
		n.Table = ownTable(16, 8)
		b.checkBack(n, at)
	}
}

// A walk of everything at random: what is granted has its rule and its queue alone, and in
// the end the NIC is as it was.
func TestWalk(t *testing.T) {
	for seed := range uint64(8) {
		random := rand.New(rand.NewPCG(seed, 7))
		b := newBench(t, usual())
		for range 40 {
			switch random.IntN(8) {
			case 0, 1, 2:
				r := request(1 + random.IntN(9))
				r.VLAN, r.Generation = random.IntN(3), uint64(random.IntN(3))
				if _, err := b.Ensure(t.Context(), r); err != nil && sdk.ReasonOf(err) == "" && vswitch.KindOf(err) != vswitch.Conflict {
					t.Fatalf("seed %d: %v", seed, err)
				}
			case 3, 4:
				b.release(1 + random.IntN(9))
			case 5:
				_ = b.Close() // which only lets go of the file
				b.start()
			case 6:
				at := 1 + random.IntN(3)
				if b.dying(func() { _, _ = b.Ensure(t.Context(), request(1+random.IntN(9))) }, nil, func(n int) {
					if n == at {
						panic(killed{})
					}
				}) {
					b.start()
				}
			case 7:
				b.fake.Alter("eth0", func(n *ethtool.FakeNIC) {
					if len(n.Rules.All) > 0 {
						n.Rules.All = n.Rules.All[1:]
					}
				})
			}
			b.checkGrants(seed)
		}
		for n := range 10 {
			b.release(n)
		}
		n := usual()
		n.Table = ownTable(16, 8)
		b.checkBack(n, int(seed))
	}
}

func (b *bench) checkGrants(seed uint64) {
	b.t.Helper()
	granted := b.grants()
	n := b.fake.NIC("eth0")
	if len(granted) != len(n.Rules.All) {
		b.t.Fatalf("seed %d: grants %v, rules %+v", seed, granted, n.Rules.All)
	}
	queues := map[int]bool{}
	for _, r := range n.Rules.All {
		if queues[r.Queue] || r.Queue == 0 {
			b.t.Fatalf("seed %d: queue %d is nobody's own: %+v", seed, r.Queue, n.Rules.All)
		}
		queues[r.Queue] = true
	}
	for _, q := range n.Table {
		if queues[int(q)] {
			b.t.Fatalf("seed %d: others come in by queue %d: %v", seed, q, n.Table)
		}
	}
}

// One process has the file at a time; another one is told so, and does nothing.
func TestTwoPlugins(t *testing.T) {
	b := newBench(t, usual())
	other := newProvider("test", func() (hardware, error) { return b.fake, nil })
	if err := other.Configure(t.Context(), sdk.Config{keyState: b.state}); vswitch.KindOf(err) != vswitch.InUse {
		t.Errorf("the other one: %v", err)
	}
	if _, err := other.Ensure(t.Context(), request(1)); err == nil {
		t.Error("without a file it grants")
	}
}

// A watch that ends by itself is no secret.
func TestDeaf(t *testing.T) {
	broken := errors.New("no buffer")
	p := newProvider("test", func() (hardware, error) { return deaf{ethtool.NewFake(usual()), broken}, nil })
	if err := p.Configure(t.Context(), sdk.Config{keyState: t.TempDir() + "/vmq.json"}); !errors.Is(err, broken) {
		t.Errorf("configure: %v", err)
	}
	if err := p.Probe(t.Context()); !errors.Is(err, broken) {
		t.Errorf("probe: %v", err)
	}
	_ = p.Close() // of what was opened before
}

// A file that says nonsense is put aside, and the plugin works.
func TestLedgerThatIsBroken(t *testing.T) {
	b := newBench(t, usual())
	b.ensure(request(1))
	_ = b.Close() // which only lets go of the file
	write(t, b.state, `{"version": 1, "nics": {"x": {"ifindex": 3, "grants": [{"port": "p1", "queue": 0}]}}}`)
	b.start()
	if got := b.grants(); len(got) > 0 {
		t.Errorf("grants %v", got)
	}
	if text := read(t, b.state+".bad"); text == "" {
		t.Error("what was there is gone")
	}
	if c := b.capability(); c.Foreign != 1 {
		t.Errorf("whose rule nobody knows is told as %+v", c)
	}
	if g := b.ensure(request(2)); g.Queue != 6 {
		t.Errorf("queue %d", g.Queue)
	}
}

func TestLedgerReadsAsWritten(t *testing.T) {
	b := newBench(t, usual())
	r := request(1)
	r.VLAN = 42
	b.ensure(r)
	nics, err := parseLedger([]byte(read(t, b.state)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.ledger.nics[nicID].Grants, nics[nicID].Grants); diff != "" {
		t.Error(diff)
	}
}

func FuzzLedger(f *testing.F) {
	f.Add([]byte(`{"version":1,"nics":{"0000:3b:00.0":{"ifindex":3,"ntuple":false,"indirection":[0,1],"grants":[{"port":"p1","generation":1,"mac":"02:50:42:00:00:01","vlan":42,"ruleVLAN":42,"queue":7}]}}}`))
	f.Add([]byte(`{"version":1,"nics":{"x":null}}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		nics, err := parseLedger(text)
		if err != nil {
			return
		}
		for id, r := range nics {
			for _, g := range r.Grants {
				if err := g.validate(); err != nil || id == "" {
					t.Errorf("believed: %q %+v", id, g)
				}
			}
			// Whatever it says is carried out without a crash, on a NIC of any shape.
			n := usual()
			n.Index, n.Address = r.Index, id
			fake := ethtool.NewFake(n)
			p := newProvider("test", func() (hardware, error) { return fake, nil })
			p.hardware, p.ledger = fake, &ledger{path: t.TempDir() + "/vmq.json", nics: nics}
			if err := p.refresh(everyNIC); err != nil {
				t.Error(err)
			}
		}
	})
}
