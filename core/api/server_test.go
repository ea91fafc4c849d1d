package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/core/wire"
)

func (l *lab) dial() *net.UnixConn {
	l.t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: l.client.socket, Net: "unix"})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestMalformed: whatever comes, the next client is served, and nothing was done.
func TestMalformed(t *testing.T) {
	l := newLab(t)
	good, err := l.client.request(nameAddSwitch, args{engine.AddSwitchRequest{Switch: prod()}})
	if err != nil {
		t.Fatal(err)
	}
	edited := func(old, new string) []byte {
		body := bytes.Replace(good[wire.FrameHeader:], []byte(old), []byte(new), 1)
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	}
	for name, raw := range map[string][]byte{
		"nothing":                      {},
		"half a header":                good[:2],
		"half a request":               good[:len(good)/2],
		"no JSON":                      {0, 0, 0, 3, 'x', 'y', 'z'},
		"empty frame":                  {0, 0, 0, 0},
		"oversized":                    {0xff, 0xff, 0xff, 0xff, '{'},
		"just oversized":               binary.BigEndian.AppendUint32(nil, wire.MaxRequest+1),
		"unknown verb":                 edited(`"verb":"switch add"`, `"verb":"format"`),
		"unknown field of the request": edited(`"verb"`, `"more":1,"verb"`),
		"unknown field of an argument": edited(`"name":"prod"`, `"name":"prod","colour":"red"`),
		"no argument":                  edited(`"args":[`, `"args":[],"x":[`),
		"argument of another type":     edited(`"name":"prod"`, `"name":7`),
		"another protocol":             edited(`"protocol":1`, `"protocol":2`),
		"two values":                   edited(`"protocol":1`, `"protocol":1}{"protocol":1`),
	} {
		t.Run(name, func(t *testing.T) {
			c := l.dial()
			if _, err := c.Write(raw); err != nil {
				t.Fatal(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			if err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Fatal(err)
			}
			if len(got) > 0 && got[0] != wire.Refused {
				t.Errorf("it was taken: %q", got)
			}
			all, err := l.client.Switches(context.Background())
			if err != nil || len(all) > 0 || l.locals > 0 {
				t.Errorf("afterwards: %v, %v, by itself %d", all, err, l.locals)
			}
		})
	}
}

// TestSilentClients take up connections and send nothing; others are served.
func TestSilentClients(t *testing.T) {
	l := newLab(t)
	for range maxConnections / 2 {
		l.dial()
	}
	if _, err := l.client.Switches(context.Background()); err != nil || l.locals > 0 {
		t.Errorf("%v; by itself %d", err, l.locals)
	}
	l.stop() // and they keep nobody from stopping
}

// TestLongVerb: a client is told that its request is taken when it lasts, and then
// waits for as long as it takes.
func TestLongVerb(t *testing.T) {
	l := newLab(t)
	l.stop()
	s := slow{Verbs: l.engine, began: make(chan context.Context), end: make(chan struct{})}
	l.serve(s)
	raw, err := l.client.request(nameAddSwitch, args{engine.AddSwitchRequest{Switch: prod()}})
	if err != nil {
		t.Fatal(err)
	}
	c := l.dial()
	if _, err := c.Write(raw); err != nil {
		t.Fatal(err)
	}
	<-s.began
	var first [1]byte
	if _, err := io.ReadFull(c, first[:]); err != nil || first[0] != wire.Taken {
		t.Fatalf("%v, %v, want to be told that it is taken", first, err)
	}
	close(s.end)
	if _, err := io.ReadFull(c, first[:]); err != nil || first[0] != wire.Answered {
		t.Errorf("%v, %v, want an answer", first, err)
	}
}

// slow is an engine whose verbs last until they are told to end.
type slow struct {
	Verbs
	began chan context.Context
	end   chan struct{}
}

func (s slow) Switches(ctx context.Context) ([]engine.SwitchStatus, error) {
	s.began <- ctx
	select {
	case <-ctx.Done():
	case <-s.end:
	}
	return nil, ctx.Err()
}

func (s slow) AddSwitch(ctx context.Context, _ engine.AddSwitchRequest) (engine.SwitchStatus, error) {
	s.began <- ctx
	<-s.end
	return engine.SwitchStatus{}, ctx.Err()
}

// TestClientGoesAway: a question is dropped, a change is finished.
func TestClientGoesAway(t *testing.T) {
	l := newLab(t)
	l.stop()
	s := slow{Verbs: l.engine, began: make(chan context.Context), end: make(chan struct{})}
	l.serve(s)
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		if _, err := l.client.Switches(ctx); err == nil || !strings.Contains(err.Error(), "interrupted") || !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted question: %v", err)
		}
	})
	at := <-s.began
	cancel()
	group.Wait()
	<-at.Done() // the daemon noticed

	ctx, cancel = context.WithCancel(context.Background())
	group.Go(func() {
		if _, err := l.client.AddSwitch(ctx, engine.AddSwitchRequest{Switch: prod()}); !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted change: %v", err)
		}
	})
	at = <-s.began
	cancel()
	group.Wait()
	l.t.Cleanup(func() {
		if at.Err() != nil {
			t.Errorf("the change was cancelled: %v", at.Err())
		}
	})
	close(s.end)
	l.stop() // waits for it
	if l.locals > 0 {
		t.Errorf("the client did it again %d times", l.locals)
	}
}

// TestStopFinishes: a server that is stopped answers what it has taken.
func TestStopFinishes(t *testing.T) {
	l := newLab(t)
	l.stop()
	s := slow{Verbs: l.engine, began: make(chan context.Context), end: make(chan struct{})}
	l.serve(s)
	var group sync.WaitGroup
	group.Go(func() {
		if _, err := l.client.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: prod()}); err != nil || l.locals > 0 {
			t.Errorf("%v, by itself %d", err, l.locals)
		}
	})
	<-s.began
	group.Go(l.stop)
	close(s.end)
	group.Wait()
}

// TestErrorsTravel: an error is the same on the other side in all that faces do
// with it.
func TestErrorsTravel(t *testing.T) {
	inner := &vswitch.Error{Kind: vswitch.IPInUse, Object: "address", Err: errors.New("taken"), Hint: "take another"}
	for name, err := range map[string]error{
		"kind":           vswitch.NotFound,
		"errno":          fmt.Errorf("step: %w", syscall.EBUSY),
		"plain":          errors.New("plain"),
		"ours":           inner,
		"ours in ours":   &vswitch.Error{Kind: vswitch.Conflict, Op: "attach", Object: "c", Err: inner, Hint: "h"},
		"wrapped":        fmt.Errorf("port x: %w", inner),
		"joined":         errors.Join(inner, errors.New("second"), vswitch.InUse),
		"undone":         fmt.Errorf("%w; the undo failed too: %w", inner, syscall.ENOSPC),
		"joined in ours": &vswitch.Error{Kind: vswitch.Invalid, Op: "switch add", Err: errors.Join(inner, inner)},
		"cancelled":      fmt.Errorf("x: %w", context.Canceled),
		"permission":     &fs.PathError{Op: "open", Path: "/x", Err: syscall.EACCES},
	} {
		t.Run(name, func(t *testing.T) {
			raw, merr := json.Marshal(encodeError(err, 0))
			var w wireError
			if merr = errors.Join(merr, json.Unmarshal(raw, &w)); merr != nil {
				t.Fatal(merr)
			}
			got := w.err()
			if diff := cmp.Diff(outcomeOf(nil, err), outcomeOf(nil, got)); diff != "" {
				t.Errorf("(-sent +received):\n%s", diff)
			}
			for _, target := range []error{
				vswitch.NotFound, vswitch.IPInUse, vswitch.InUse, vswitch.Conflict, syscall.EBUSY, syscall.ENOSPC,
				context.Canceled, fs.ErrPermission,
			} {
				if errors.Is(err, target) != errors.Is(got, target) {
					t.Errorf("is %v: sent %v, received %v", target, errors.Is(err, target), errors.Is(got, target))
				}
			}
		})
	}
}

// FuzzRequest feeds the server's reader: it neither crashes nor takes what is no
// request, and what it takes has the arguments of the verb.
func FuzzRequest(f *testing.F) {
	c := &remote{build: wire.Build}
	for _, seed := range []struct {
		verb string
		args args
	}{
		{nameAttach, args{attach()}},
		{nameSetSwitch, args{"prod", engine.SwitchChange{}}},
		{nameSetPort, args{"c1", engine.PortChange{}}},
		{nameStatus, args{}},
		{nameDeleteSwitch, args{"prod", true}},
		{nameGC, args{engine.GCRequest{Network: "n", Valid: []vswitch.Owner{owner()}}}},
		{nameReservePort, args{engine.ReservePortRequest{Switch: "prod"}}},
		{nameBindPort, args{engine.BindPortRequest{Netdev: "vnet0"}}},
		{nameBindPorts, args{[]engine.BindPortRequest{{Netdev: "vnet0"}, {Netdev: "vnet1"}}}},
		{nameExpectVM, args{engine.ExpectDomainRequest{State: &engine.DomainState{Version: engine.DomainStateVersion, Ports: []engine.PortState{{Switch: "prod"}}}}}},
		{nameHoldMAC, args{engine.HoldMACRequest{NIC: "ua-web"}}},
		{nameMakeTap, args{engine.TapRequest{Name: "pt-web"}}},
	} {
		raw, err := c.request(seed.verb, seed.args)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte{0, 0, 0, 2, '{', '}'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	p, err := wire.Here(c.dirs.State, c.dirs.Run)
	if err != nil {
		f.Fatal(err)
	}
	s := &Server{served: served(), place: p, build: wire.Build}
	f.Fuzz(func(t *testing.T, raw []byte) {
		body, err := wire.ReadFrame(bytes.NewReader(raw), wire.MaxRequest)
		if err != nil {
			return
		}
		run, err := s.admit(body)
		if err != nil {
			return
		}
		if run.do == nil || run.verb == "" {
			t.Errorf("%q was taken as nothing", body)
		}
		for _, a := range run.args {
			subject(a)
		}
	})
}

// FuzzAnswer feeds the client's reader of answers and errors.
func FuzzAnswer(f *testing.F) {
	raw, err := frame(0, answer{Result: json.RawMessage(`{"a":1}`), Error: encodeError(errors.Join(vswitch.InUse, syscall.EBUSY), 0)}, wire.MaxAnswer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		body, err := wire.ReadFrame(bytes.NewReader(raw), wire.MaxRequest)
		if err != nil {
			return
		}
		var a answer
		if json.Unmarshal(body, &a) != nil {
			return
		}
		if err := a.Error.err(); err != nil {
			_ = err.Error()
			_ = vswitch.KindOf(err)
		}
	})
}
