package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// heardFrame is a captured frame that stays.
type heardFrame struct {
	Sent   bool
	Length int
	Data   string
}

// captureOf begins a capture and returns how to end it, once it has begun.
func captureOf(t *testing.T, ns *os.File, req CaptureRequest) (end func() ([]heardFrame, CaptureReport)) {
	t.Helper()
	if req.Snaplen == 0 {
		req.Snaplen = MaxSnaplen
	}
	ctx, cancel := context.WithCancel(t.Context())
	var heard []heardFrame
	var report CaptureReport
	begun, ended := make(chan struct{}), make(chan error, 1)
	var last time.Time
	req.Frame = func(f CapturedFrame) error {
		if bytes.Contains(f.Data, []byte("the end")) {
			cancel()
			return nil
		}
		if f.Time.Before(last) || time.Since(f.Time) > time.Minute {
			t.Errorf("a frame of %v after one of %v", f.Time, last)
		}
		last = f.Time
		heard = append(heard, heardFrame{f.Sent, f.Length, string(f.Data)})
		return nil
	}
	first := true
	req.Idle = func() error {
		if first {
			close(begun)
		}
		first = false
		return nil
	}
	go func() {
		ended <- inNetns(ns, func() (err error) {
			report, err = Capture(ctx, req)
			return err
		})
	}()
	select {
	case <-begun:
	case err := <-ended:
		t.Fatal(err)
	}
	return func() ([]heardFrame, CaptureReport) {
		t.Helper()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		return heard, report
	}
}

// captureLab is a guest whose port is captured, another one that talks with it, and what
// passes the port when they do.
func captureLab(t *testing.T) (l *lab, talk func(), all []heardFrame) {
	t.Helper()
	l = newLab(t, 2, vswitch.Group(1))
	g1, g2 := listen(t, l.guests[0], "eth0"), listen(t, l.guests[1], "eth0")
	out := func(n int) []byte { return ethernet(macOf(2), macOf(1), 0x88b5, fmt.Appendf(nil, "out %d, to p2", n)) }
	in := func(n int) []byte { return ethernet(macOf(1), macOf(2), 0x88b5, fmt.Appendf(nil, "in %d, to p1", n)) }
	tagged := slices.Insert(out(0), 12, 0x81, 0x00, 0x60, 0x2a) // priority 3, VLAN 42
	service := slices.Insert(slices.Insert(in(0), 12, 0x81, 0x00, 0x00, 0x07), 12, 0x88, 0xa8, 0x00, 0x63)
	long := append(out(1), bytes.Repeat([]byte{'x'}, 1400)...)
	script := []struct {
		from  *listener
		frame []byte
	}{{g1, out(2)}, {g2, in(2)}, {g1, tagged}, {g2, service}, {g1, long}, {g2, in(3)}}
	for _, s := range script {
		all = append(all, heardFrame{Sent: s.from == g2, Length: len(s.frame), Data: string(s.frame)})
	}
	talk = func() {
		fence(t, g1, g2) // the bridge knows both
		for _, s := range script {
			to := map[*listener]*listener{g1: g2, g2: g1}[s.from]
			s.from.send(t, s.frame)
			to.await(t, "a frame", containing(string(s.frame[len(s.frame)-8:])))
		}
		for _, g := range []*listener{g1, g2} {
			g.send(t, ethernet(broadcastMAC, macOf(9), 0x88b5, []byte("the end")))
		}
	}
	return l, talk, all
}

func withoutFences(frames []heardFrame) []heardFrame {
	return slices.DeleteFunc(frames, func(f heardFrame) bool { return bytes.Contains([]byte(f.Data), []byte("ence ")) })
}

func TestCapture(t *testing.T) {
	for name, c := range map[string]struct {
		req  CaptureRequest
		keep func(heardFrame) bool
	}{
		"both":     {CaptureRequest{}, func(heardFrame) bool { return true }},
		"sent":     {CaptureRequest{Direction: OnlySent}, func(f heardFrame) bool { return f.Sent }},
		"received": {CaptureRequest{Direction: OnlyReceived}, func(f heardFrame) bool { return !f.Sent }},
		"in part":  {CaptureRequest{Snaplen: 40}, func(heardFrame) bool { return true }},
	} {
		t.Run(name, func(t *testing.T) {
			l, talk, all := captureLab(t)
			c.req.Netdev = "p1"
			end := captureOf(t, l.host, c.req)
			talk()
			got, report := end()
			var want []heardFrame
			for _, f := range all {
				if c.req.Snaplen > 0 {
					f.Data = f.Data[:min(len(f.Data), c.req.Snaplen)]
				}
				if c.keep(f) {
					want = append(want, f)
				}
			}
			if diff := cmp.Diff(want, withoutFences(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if report.Frames < len(want) || report.Dropped != 0 || report.Gone {
				t.Errorf("reports %+v", report)
			}
		})
	}
}

func TestCaptureCounts(t *testing.T) {
	l, talk, _ := captureLab(t)
	end := captureOf(t, l.host, CaptureRequest{Netdev: "p1", Count: 3})
	talk()
	if got, report := end(); len(got) != 3 || report.Frames != 3 {
		t.Errorf("%d frames, reports %+v", len(got), report)
	}
}

// A netdev that goes ends the capture; one that is down for a while does not.
func TestCaptureEndsWithTheNetdev(t *testing.T) {
	l, talk, _ := captureLab(t)
	end := captureOf(t, l.host, CaptureRequest{Netdev: "p1"})
	sh(t, l.host, "ip link set p1 down")
	port, guest := upAgain(t, l.host, "p1"), upAgain(t, l.guests[0], "eth0")
	sh(t, l.host, "ip link set p1 up")
	port()
	guest()
	talk()
	if got, report := end(); len(withoutFences(got)) < 6 || report.Gone {
		t.Errorf("after it was down: %d frames, reports %+v", len(got), report)
	}
	end = captureOf(t, l.host, CaptureRequest{Netdev: "p1"})
	sh(t, l.host, "ip link delete p1")
	if _, report := end(); !report.Gone {
		t.Errorf("reports %+v", report)
	}
	within(t, l.host, func() error {
		if _, err := Capture(t.Context(), CaptureRequest{Netdev: "p1", Snaplen: 64}); !errors.Is(err, vswitch.NotFound) {
			t.Errorf("of no netdev: %v", err)
		}
		return nil
	})
}

// What nobody has time for is counted, and takes no memory beyond the buffer.
func TestCaptureTellsWhatItDropped(t *testing.T) {
	l := newLab(t, 1, vswitch.Group(1))
	g1 := listen(t, l.guests[0], "eth0")
	begun, reading, read, ended := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var report CaptureReport
	begin, stall := sync.OnceFunc(func() { close(begun) }), sync.OnceFunc(func() { close(reading); <-read })
	errEnd := errors.New("the end")
	go func() {
		ended <- inNetns(l.host, func() (err error) {
			report, err = Capture(t.Context(), CaptureRequest{
				Netdev: "p1", Snaplen: MaxSnaplen, Direction: OnlyReceived,
				Frame: func(f CapturedFrame) error {
					if stall(); bytes.Contains(f.Data, []byte("the end")) {
						return errEnd
					}
					return nil
				},
				Idle: func() error { begin(); return nil },
			})
			return err
		})
	}()
	<-begun
	const sent = 30_000 // of 1400 bytes
	frame := ethernet(macOf(2), macOf(1), 0x88b5, make([]byte, 1400))
	for range sent {
		g1.send(t, frame)
	}
	<-reading
	close(read)
	for {
		g1.send(t, ethernet(macOf(2), macOf(1), 0x88b5, []byte("the end")))
		select {
		case err := <-ended:
			if !errors.Is(err, errEnd) {
				t.Error(err)
			}
			if report.Dropped == 0 || report.Frames == 0 || report.Frames*len(frame) > 2*captureBuffer { // the kernel doubles what it is asked for
				t.Errorf("%d frames captured, %d dropped of %d", report.Frames, report.Dropped, sent)
			}
			return
		default:
		}
	}
}
