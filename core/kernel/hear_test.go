package kernel

import (
	"context"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// TestCaptureFrom: of one address, but for what only tells where the address is.
func TestCaptureFrom(t *testing.T) {
	l, talk, all := captureLab(t)
	end := captureOf(t, l.host, CaptureRequest{Netdev: "p1", Direction: OnlyReceived, From: macOf(1), Count: 3})
	listen(t, l.guests[0], "eth0").send(t, rarp(macOf(1)))
	talk()
	got, _ := end()
	if diff := cmp.Diff(slices.DeleteFunc(all, func(f heardFrame) bool { return f.Sent }), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestHear(t *testing.T) {
	l, talk, _ := captureLab(t)
	k := NewLinux()
	heard := make(chan error, 1)
	go func() { heard <- inNetns(l.host, func() error { return k.Hear(t.Context(), "p1", macOf(1)) }) }()
	for ended := false; !ended; { // until it has begun
		talk()
		select {
		case err := <-heard:
			if ended = true; err != nil {
				t.Error(err)
			}
		default:
		}
	}
	for name, want := range map[string]error{"p1": context.Canceled, "none": vswitch.NotFound} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		within(t, l.host, func() error {
			if err := k.Hear(ctx, name, macOf(1)); !errors.Is(err, want) {
				t.Errorf("on %s: %v, want %v", name, err, want)
			}
			return nil
		})
	}
}

// TestLetIn: a NIC takes an address in besides its own, and no more; each may be asked again.
func TestLetIn(t *testing.T) {
	ns := newNS(t)
	sh(t, ns, "ip link add nic type veth peer name wire\nip link add b0 type bridge\nip link set nic master b0")
	within(t, ns, func() error {
		k := NewLinux()
		for _, off := range []bool{false, true} {
			for range 2 {
				if err := k.Apply(t.Context(), []plan.Step{plan.LetIn{Netdev: "nic", MAC: macOf(7), Off: off}}); err != nil {
					return err
				}
			}
			out, err := exec.Command("bridge", "fdb", "show", "dev", "nic").CombinedOutput()
			if in := strings.Contains(string(out), vswitch.MAC(macOf(7)).String()+" self permanent"); err != nil || in == off {
				t.Errorf("off %v: %v\n%s", off, err, out)
			}
		}
		if err := k.Apply(t.Context(), []plan.Step{plan.LetIn{Netdev: "none", MAC: macOf(7), Off: true}}); !errors.Is(err, vswitch.NotFound) {
			t.Errorf("of no NIC: %v", err)
		}
		return nil
	})
}
