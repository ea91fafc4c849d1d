package api

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/wire"
)

// While a process deletes, others of the plugin have it delete for them; when it has ended
// the next one gathers.
func TestGather(t *testing.T) {
	run := t.TempDir()
	t.Setenv(wire.RunDirEnv, run)
	t.Setenv(wire.StateDirEnv, t.TempDir())
	says := func(who string) func(Verbs) wire.Answer {
		return func(Verbs) wire.Answer { return wire.Answer{Out: []byte(who)} }
	}
	gathers := func(_ context.Context, _ Verbs, c wire.Call) (wire.Answer, bool) {
		return wire.Answer{Out: []byte("gathered " + c.ContainerID)}, c.ContainerID != "other"
	}
	ctx := context.Background()
	for range 2 {
		// As one that was killed leaves it.
		if err := os.WriteFile(wire.GatheringPath(run), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		a := Gather(ctx, wire.Call{ContainerID: "first"}, gathers, func(Verbs) wire.Answer {
			if a := Gather(ctx, wire.Call{ContainerID: "second"}, nil, says("second alone")); string(a.Out) != "gathered second" {
				t.Errorf("the second: %s", a.Out)
			}
			if a := Gather(ctx, wire.Call{ContainerID: "other"}, nil, says("other alone")); string(a.Out) != "other alone" {
				t.Errorf("one that is not for others: %s", a.Out)
			}
			return wire.Answer{Out: []byte("first")}
		})
		if string(a.Out) != "first" {
			t.Errorf("the first: %s", a.Out)
		}
		if _, done := wire.AskGathering(wire.Call{ContainerID: "late"}); done {
			t.Error("it gathers still")
		}
	}
	t.Setenv(wire.RunDirEnv, run+"/none")
	if a := Gather(ctx, wire.Call{}, gathers, says("alone")); string(a.Out) != "alone" {
		t.Errorf("where nothing can be written: %s", a.Out)
	}
}

// Who has been accepted when the gathering ends is served.
func TestGatherEndsWithItsGuests(t *testing.T) {
	t.Setenv(wire.RunDirEnv, t.TempDir())
	t.Setenv(wire.StateDirEnv, t.TempDir())
	begun, ends, answers := make(chan struct{}), make(chan struct{}), make(chan string, 1)
	slow := func(context.Context, Verbs, wire.Call) (wire.Answer, bool) {
		close(begun)
		<-ends
		return wire.Answer{Out: []byte("gathered")}, true
	}
	Gather(context.Background(), wire.Call{}, slow, func(Verbs) wire.Answer {
		go func() {
			a, _ := wire.AskGathering(wire.Call{})
			answers <- string(a.Out)
		}()
		<-begun
		go close(ends)
		return wire.Answer{}
	})
	if a := <-answers; a != "gathered" {
		t.Errorf("it got %q", a)
	}
}

// Nobody is waited for who has not asked when the gathering ends.
func TestGatherDoesNotWaitForSilence(t *testing.T) {
	run := t.TempDir()
	t.Setenv(wire.RunDirEnv, run)
	t.Setenv(wire.StateDirEnv, t.TempDir())
	nobody := func(context.Context, Verbs, wire.Call) (wire.Answer, bool) { return wire.Answer{}, false }
	start := time.Now()
	Gather(context.Background(), wire.Call{}, nobody, func(Verbs) wire.Answer {
		c, err := net.Dial("unix", wire.GatheringPath(run))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, done := wire.AskGathering(wire.Call{}); done { // the silent one has been accepted by now
			t.Error("it is not for others")
		}
		return wire.Answer{}
	})
	if took := time.Since(start); took >= requestPatience {
		t.Errorf("it took %s", took)
	}
}
