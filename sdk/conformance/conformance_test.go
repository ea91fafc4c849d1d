package conformance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/plugins/example/card"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/conformance"
	"github.com/patchbay-net/patchbay/sdk/plugintest"
)

// This test's own program is a plugin too: the example, or one with a fault.
func TestMain(m *testing.M) {
	plugintest.Main(m, func() {
		if os.Args[0] == "leaky" {
			sdk.Serve(leaky{faulty{Provider: card.New(), name: "leaky"}})
		}
		sdk.Serve(card.New())
	})
}

// program is this test's own as a plugin.
func program(t *testing.T, name string) conformance.Target {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), sdk.ExecutablePrefix+name)
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	target, err := conformance.Program(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func TestExampleConformsInAProcessOfItsOwn(t *testing.T) {
	t.Parallel()
	report := conformance.Run(t.Context(), program(t, "example"), conformance.Options{Config: []byte(`{"nics": 2, "vfs": 3}`)})
	for _, r := range report.Results {
		if r.Outcome == conformance.Failed {
			t.Errorf("%s: %s", r.Name, r.Detail)
		}
	}
	if report.Count(conformance.Passed) < 35 || !report.Conforms() || report.Plugin.Name != "example" {
		t.Errorf("%+v", report)
	}
}

// faulty is the example but for what a test makes of it.
type faulty struct {
	*card.Provider
	name    string
	ensure  func(context.Context, sdk.Request) (sdk.Grant, error)
	release func(context.Context, sdk.Ref, uint64) error
	grants  func(context.Context) ([]sdk.Grant, error)
	watch   func(context.Context, func(sdk.Inventory) error) error
}

func (f faulty) Describe(ctx context.Context) (sdk.Description, error) {
	d, err := f.Provider.Describe(ctx)
	if f.name != "" {
		d.Name = f.name
	}
	return d, err
}

func (f faulty) Ensure(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
	if f.ensure != nil {
		return f.ensure(ctx, r)
	}
	return f.Provider.Ensure(ctx, r)
}

func (f faulty) Release(ctx context.Context, ref sdk.Ref, generation uint64) error {
	if f.release != nil {
		return f.release(ctx, ref, generation)
	}
	return f.Provider.Release(ctx, ref, generation)
}

func (f faulty) Grants(ctx context.Context) ([]sdk.Grant, error) {
	if f.grants != nil {
		return f.grants(ctx)
	}
	return f.Provider.Grants(ctx)
}

func (f faulty) WatchInventory(ctx context.Context, tell func(sdk.Inventory) error) error {
	if f.watch != nil {
		return f.watch(ctx, tell)
	}
	return f.Provider.WatchInventory(ctx, tell)
}

// leaky opens a file with every grant.
type leaky struct{ faulty }

func (l leaky) Ensure(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
	if _, err := syscall.Open("/dev/null", syscall.O_RDONLY, 0); err != nil {
		return sdk.Grant{}, err
	}
	return l.Provider.Ensure(ctx, r)
}

const forever = 1 << 40 // a generation

// Each fault that the suite is there for is found, by the check that is there for it.
func TestFaultsAreFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(f *faulty)
		want  []string // checks of sriov that fail
	}{
		"none": {spoil: func(*faulty) {}},
		"a second request spends a second VF": {
			func(f *faulty) {
				var n atomic.Int64
				f.ensure = func(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
					if _, err := f.Provider.Ensure(ctx, r); err != nil {
						return sdk.Grant{}, err
					}
					g := sdk.Grant{Ref: r.Ref, NIC: r.NIC, Generation: r.Generation, VF: &sdk.VF{Index: int(n.Add(1))}}
					return g, nil
				}
			},
			[]string{"sriov/ensure"},
		},
		"late requests are granted": {
			func(f *faulty) {
				f.ensure = func(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
					if err := f.Provider.Release(ctx, r.Ref, forever); err != nil {
						return sdk.Grant{}, err
					}
					return f.Provider.Ensure(ctx, r)
				}
			},
			[]string{"sriov/ensure late"},
		},
		"a late release takes the grant of a later owner": {
			func(f *faulty) {
				f.release = func(ctx context.Context, ref sdk.Ref, _ uint64) error { return f.Provider.Release(ctx, ref, forever) }
			},
			[]string{"sriov/release late"},
		},
		"a release of what is not there is an error": {
			func(f *faulty) {
				f.release = func(ctx context.Context, ref sdk.Ref, generation uint64) error {
					if _, err := f.Counters(ctx, ref); err != nil {
						return err
					}
					return f.Provider.Release(ctx, ref, generation)
				}
			},
			[]string{"sriov/release", "sriov/release unknown"},
		},
		"nothing is released": {
			func(f *faulty) { f.release = func(context.Context, sdk.Ref, uint64) error { return nil } },
			[]string{"sriov/release", "sriov/ensure newer", "sriov/capacity", "sriov/leaks", "features apart"},
		},
		"a failed request leaves something": {
			func(f *faulty) {
				var mu sync.Mutex
				extra := map[sdk.Ref]sdk.Grant{}
				f.ensure = func(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
					g, err := f.Provider.Ensure(ctx, r)
					if err != nil && r.NIC == "no-such-nic" {
						mu.Lock()
						defer mu.Unlock()
						extra[r.Ref] = sdk.Grant{Ref: r.Ref, NIC: r.NIC, Generation: r.Generation, VF: &sdk.VF{}}
						if r.Feature != vswitch.SRIOV {
							extra[r.Ref] = sdk.Grant{Ref: r.Ref, NIC: r.NIC, Generation: r.Generation}
						}
					}
					return g, err
				}
				f.grants = func(ctx context.Context) ([]sdk.Grant, error) {
					mu.Lock()
					defer mu.Unlock()
					all, err := f.Provider.Grants(ctx)
					return append(all, slices.Collect(maps.Values(extra))...), err
				}
			},
			[]string{"sriov/ensure unknown NIC"},
		},
		"exhaustion without a reason": {
			func(f *faulty) {
				f.ensure = func(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
					g, err := f.Provider.Ensure(ctx, r)
					if sdk.ReasonOf(err) == vswitch.NoFreeVF {
						err = errors.New("ENOSPC")
					}
					return g, err
				}
			},
			[]string{"sriov/capacity"},
		},
		"grants are not listed": {
			func(f *faulty) { f.grants = func(context.Context) ([]sdk.Grant, error) { return nil, nil } },
			[]string{"sriov/ensure", "sriov/ensure newer", "sriov/in parallel", "sriov/restart"},
		},
		"callers are waited for": {
			func(f *faulty) {
				f.ensure = func(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
					g, err := f.Provider.Ensure(ctx, r)
					if deadline, has := ctx.Deadline(); has && time.Until(deadline) < time.Second {
						r.Port += "-lost" // what nobody will release
						_, _ = f.Provider.Ensure(context.Background(), r)
					}
					return g, err
				}
			},
			[]string{"sriov/callers that go away"},
		},
		"an inventory that comes late": {
			func(f *faulty) {
				f.watch = func(ctx context.Context, _ func(sdk.Inventory) error) error { <-ctx.Done(); return ctx.Err() }
			},
			[]string{"process/starts"},
		},
		"another NIC for each watcher": {
			func(f *faulty) {
				n := 0
				f.watch = func(ctx context.Context, tell func(sdk.Inventory) error) error {
					if n++; n == 1 {
						return f.Provider.WatchInventory(ctx, tell)
					}
					if err := tell(sdk.Inventory{}); err != nil {
						return err
					}
					<-ctx.Done()
					return ctx.Err()
				}
			},
			[]string{"inventory/every watcher"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := conformance.InMemory(func() sdk.Provider {
				f := &faulty{Provider: card.New()}
				c.spoil(f)
				return f
			})
			report := conformance.Run(t.Context(), target, conformance.Options{})
			failed := map[string]string{}
			for _, r := range report.Results {
				if r.Outcome == conformance.Failed {
					failed[r.Name] = r.Detail
				}
			}
			if (len(failed) == 0) != (c.want == nil) || report.Conforms() != (c.want == nil) {
				t.Errorf("failed: %v", failed)
			}
			for _, want := range c.want {
				if failed[want] == "" {
					t.Errorf("%s passes; failed: %v", want, failed)
				}
			}
		})
	}
}

func TestLeaksAreFound(t *testing.T) {
	t.Parallel()
	report := conformance.Run(t.Context(), program(t, "leaky"), conformance.Options{})
	for _, r := range report.Results {
		if strings.HasSuffix(r.Name, "/leaks") && r.Outcome == conformance.Passed {
			t.Errorf("%s passes", r.Name)
		}
	}
	if report.Count(conformance.Failed) != 2 {
		t.Errorf("%+v", report.Results)
	}
}

// A plugin without hardware is told so, and conforms to nothing.
func TestNothingToTryWith(t *testing.T) {
	t.Parallel()
	target := conformance.InMemory(func() sdk.Provider {
		return faulty{Provider: card.New(), watch: func(ctx context.Context, tell func(sdk.Inventory) error) error {
			if err := tell(sdk.Inventory{}); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		}}
	})
	report := conformance.Run(t.Context(), target, conformance.Options{})
	if report.Count(conformance.Failed) != 0 || report.Count(conformance.Skipped) < 25 {
		t.Errorf("%+v", report)
	}
}

func TestReports(t *testing.T) {
	report := conformance.Report{
		Plugin: &sdk.Description{Name: "x"}, Protocol: 1,
		Results: []conformance.Result{{"a", conformance.Passed, "", 1.5}, {"b", conformance.Failed, `it says "<no>"`, 0.25}, {"c", conformance.Skipped, "no NIC", 0}},
	}
	var text bytes.Buffer
	if err := report.WriteJUnit(&text); err != nil {
		t.Fatal(err)
	}
	want := xml.Header + `<testsuite name="patchbay-plugin-x" tests="3" failures="1" skipped="1" time="1.750">
  <testcase classname="patchbay-plugin-x" name="a" time="1.500"></testcase>
  <testcase classname="patchbay-plugin-x" name="b" time="0.250">
    <failure message="it says &#34;&lt;no&gt;&#34;"></failure>
  </testcase>
  <testcase classname="patchbay-plugin-x" name="c" time="0.000">
    <skipped message="no NIC"></skipped>
  </testcase>
</testsuite>
`
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Error(diff)
	}
	text.Reset()
	if err := report.WriteJSON(&text); err != nil {
		t.Fatal(err)
	}
	var again conformance.Report
	if err := json.Unmarshal(text.Bytes(), &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(report, again); diff != "" {
		t.Error(diff)
	}
	if _, err := conformance.Program("/bin/true", nil); !errors.Is(err, vswitch.Invalid) {
		t.Error(err)
	}
}
