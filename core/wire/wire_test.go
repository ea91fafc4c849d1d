package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func call() Call {
	return Call{Command: "ADD", ContainerID: "c", Netns: "/run/netns/c", IfName: "eth0", Args: "A=B;C=", Stdin: []byte("{\"a\":\"\x00\"}")}
}

func TestCallTravels(t *testing.T) {
	place := Place{Net: "4:1", Mount: "4:2", State: "/s", Run: "/r"}
	for name, c := range map[string]Call{"whole": call(), "empty": {Stdin: []byte{}}} {
		t.Run(name, func(t *testing.T) {
			build := "build"
			frame, err := encodeCall(CallMark, envelope(&build, &place), c.fields(), c.Stdin)
			if err != nil {
				t.Fatal(err)
			}
			body, err := ReadFrame(bytes.NewReader(frame), MaxRequest)
			if err != nil {
				t.Fatal(err)
			}
			got, build, at, err := ParseCall(body)
			if err != nil || build != "build" {
				t.Errorf("build %q, %v", build, err)
			}
			if diff := cmp.Diff(c, got) + cmp.Diff(place, at); diff != "" {
				t.Errorf("(-sent +received):\n%s", diff)
			}
		})
	}
}

// patchbayd serves one client: it hands on the request, and sends what is in answer.
func patchbayd(t *testing.T, answer []byte) (requests <-chan []byte) {
	t.Helper()
	run := t.TempDir()
	t.Setenv(RunDirEnv, run)
	l, err := net.Listen("unix", filepath.Join(run, "patchbayd.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	came := make(chan []byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		body, _ := ReadFrame(c, MaxRequest) // what it lacks is missed below
		came <- body
		_, _ = c.Write(answer) // the client may be content with less
	}()
	return came
}

func TestAsk(t *testing.T) {
	answered := func(a Answer) []byte {
		out, err := AppendAnswer(nil, a)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	long := strings.Repeat("x", 300<<10)
	for name, x := range map[string]struct {
		says        []byte
		want        Answer
		done, alone bool
	}{
		"success":          {answered(Answer{Out: []byte("yes")}), Answer{Out: []byte("yes")}, true, false},
		"nothing to print": {answered(Answer{}), Answer{Out: []byte{}}, true, false},
		"failure":          {answered(Answer{Out: []byte("no"), Failed: true}), Answer{Out: []byte("no"), Failed: true}, true, false},
		"late":             {append([]byte{Taken}, answered(Answer{Out: []byte("yes")})...), Answer{Out: []byte("yes")}, true, false},
		"long":             {answered(Answer{Out: []byte(long)}), Answer{Out: []byte(long)}, true, false},
		"refused":          {[]byte{Refused, 0, 0, 0, 2, '{', '}'}, Answer{}, false, false},
		"taken, refused":   {[]byte{Taken, Refused, 0, 0, 0, 2, '{', '}'}, Answer{}, false, false},
		"silence":          {nil, Answer{}, false, true},
		"half an answer":   {answered(Answer{Out: []byte("yes")})[:6], Answer{}, false, true},
		"no status":        {[]byte{Answered, 0, 0, 0, 0}, Answer{}, false, false},
		"no answer":        {[]byte{9, 0, 0, 0, 1, 0}, Answer{}, false, true},
		"endless":          {[]byte{Answered, 0xff, 0xff, 0xff, 0xff}, Answer{}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			requests := patchbayd(t, x.says)
			got, done, alone := Ask(call())
			if done != x.done || alone != x.alone {
				t.Errorf("done %v, alone %v, want %v, %v", done, alone, x.done, x.alone)
			}
			if diff := cmp.Diff(x.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if c, build, _, err := ParseCall(<-requests); err != nil || build != Build || !cmp.Equal(c, call()) {
				t.Errorf("patchbayd got %+v of %q, %v", c, build, err)
			}
		})
	}
}

func TestNobodyIsAsked(t *testing.T) {
	t.Setenv(RunDirEnv, t.TempDir())
	if _, done, alone := Ask(call()); done || !alone {
		t.Errorf("nobody listens: done %v, alone %v", done, alone)
	}
	patchbayd(t, nil)
	c := call()
	c.Stdin = make([]byte, MaxRequest)
	if _, done, alone := Ask(c); done || alone {
		t.Errorf("too large: done %v, alone %v", done, alone)
	}
}

func TestDirs(t *testing.T) {
	t.Setenv(StateDirEnv, "")
	t.Setenv(RunDirEnv, "")
	if state, run := Dirs(); state != "/var/lib/patchbay" || run != "/run/patchbay" {
		t.Errorf("by default %s, %s", state, run)
	}
	t.Setenv(StateDirEnv, "/s")
	t.Setenv(RunDirEnv, "/r")
	if state, run := Dirs(); state != "/s" || SocketPath(run) != "/r/patchbayd.sock" {
		t.Errorf("moved %s, %s", state, SocketPath(run))
	}
}

// FuzzCall feeds the reader of calls: what it takes travels again as it came.
func FuzzCall(f *testing.F) {
	build, at, c, h := "build", Place{Net: "1:2", Mount: "3:4", State: "/s", Run: "/r"}, call(), hookCall()
	for mark, fields := range map[byte][]*string{CallMark: c.fields(), HookMark: h.fields()} {
		frame, err := encodeCall(mark, envelope(&build, &at), fields, c.Stdin)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
		f.Add([]byte{0, 0, 0, 1, mark})
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		body, err := ReadFrame(bytes.NewReader(raw), MaxRequest)
		if err != nil {
			if !errors.Is(err, ErrFrame) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Error(err)
			}
			return
		}
		c, build, p, err := ParseCall(body)
		mark, fields, rest := byte(CallMark), c.fields(), c.Stdin
		if IsHookCall(body) {
			var h HookCall
			h, build, p, err = ParseHookCall(body)
			mark, fields, rest = HookMark, h.fields(), h.Stdin
		}
		if err != nil {
			return
		}
		again, err := encodeCall(mark, envelope(&build, &p), fields, rest)
		if err != nil || !bytes.Equal(again[FrameHeader:], body) {
			t.Errorf("%q becomes %q: %v", body, again, err)
		}
	})
}
