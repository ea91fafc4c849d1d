package wire

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func hookCall() HookCall {
	return HookCall{Driver: "qemu", Object: "vm1", Operation: "release", Extra: "destroyed", Stdin: []byte("<domain/>")}
}

func TestAskHook(t *testing.T) {
	answered, err := AppendAnswer(nil, Answer{Out: []byte("no"), Failed: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		says              []byte
		want              Answer
		done, alone, late bool
	}{
		"an answer":       {says: answered, want: Answer{Out: []byte("no"), Failed: true}, done: true},
		"taken, answered": {says: append([]byte{Taken}, answered...), want: Answer{Out: []byte("no"), Failed: true}, done: true},
		"refused":         {says: []byte{Refused, 0, 0, 0, 2, '{', '}'}},
		"cut off":         {says: answered[:3], alone: true},
	} {
		t.Run(name, func(t *testing.T) {
			requests := patchbayd(t, x.says)
			a, done, alone, late := AskHook(hookCall())
			if done != x.done || alone != x.alone || late != x.late {
				t.Errorf("done %v, alone %v, late %v", done, alone, late)
			}
			if diff := cmp.Diff(x.want, a); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			body := <-requests
			c, build, _, err := ParseHookCall(body)
			if err != nil || build != Build || !cmp.Equal(c, hookCall()) || IsCall(body) || !IsHookCall(body) {
				t.Errorf("patchbayd got %+v of %q, %v", c, build, err)
			}
		})
	}
}

// Libvirt answers nobody while its hook waits: a patchbayd that says nothing is given up,
// and one that has begun as well.
func TestAskHookHasNoMorePatience(t *testing.T) {
	for name, says := range map[string][]byte{"silent": nil, "busy": {Taken}} {
		t.Run(name, func(t *testing.T) {
			hold(t, says)
			_, done, alone, late := AskHook(hookCall())
			if done || alone != (says == nil) || late != (says != nil) {
				t.Errorf("done %v, alone %v, late %v", done, alone, late)
			}
		})
	}
}

// hold is a patchbayd that says this and nothing more, and does not hang up either.
func hold(t *testing.T, says []byte) {
	t.Helper()
	run := t.TempDir()
	t.Setenv(RunDirEnv, run)
	l, err := net.Listen("unix", filepath.Join(run, "patchbayd.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = c.Close() })
		_, _ = c.Write(says) // the client may be gone
	}()
}
