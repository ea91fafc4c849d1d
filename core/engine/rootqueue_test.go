package engine_test

import (
	"context"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// A root queue that somebody has given an uplink is named before minimums take its place,
// while they have it, and after they are gone, until there is another one.
func TestReplacedQueuesAreNamed(t *testing.T) {
	ctx := context.Background()
	l := newLab(t)
	l.sharedWAN("")
	says := func(when string, inStatus bool, words string) {
		t.Helper()
		s, err := l.Status(ctx)
		must(t, err)
		d, err := l.Doctor(ctx, engine.DoctorRequest{})
		must(t, err)
		var status, doctor []string
		for _, p := range s.Problems {
			if strings.Contains(p.Message, "root queue") {
				status = append(status, p.Message)
			}
		}
		for _, f := range d.Findings {
			if f.Check == "root queue" {
				doctor = append(doctor, f.What)
			}
		}
		if got := strings.Join(doctor, ";"); words == "" && got != "" || !strings.Contains(got, words) {
			t.Errorf("%s: doctor says %q, want %q", when, got, words)
		}
		if got := strings.Join(status, ";"); inStatus != strings.Contains(got, "nic0") || inStatus && !strings.Contains(got, words) {
			t.Errorf("%s: status says %q, want %q", when, got, words)
		}
	}
	says("the kernel's own", false, "")
	l.mustAttach(promised(0, weight(9)))
	says("it was the kernel's own", false, "")
	l.mustDetach(0)
	l.kernel.GiveQueue("nic0", "fq 8001:")
	says("before", false, "nic0 has a root queue that somebody gave it (fq 8001:): the first minimum of bandwidth on switch wan takes its place")
	l.mustAttach(promised(0, weight(9)))
	l.wantParts("shared", "nic0 *:100.0 nic0 0:900.0")
	says("while", true, "have taken the place of the root queue that somebody gave nic0 (fq 8001:)")
	l.open()
	says("to another process", true, "have taken the place")
	l.mustDetach(0)
	says("after", true, "nic0 does not have the root queue that somebody gave it (fq 8001:)")
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "wan", Force: true}))
	says("without the switch", true, "nic0 does not have the root queue that somebody gave it (fq 8001:)")
	l.kernel.GiveQueue("nic0", "fq 8002:")
	says("there is another one", false, "")
	l.sharedWAN(vswitch.BandwidthNone)
	says("nothing will take its place", false, "")
}
