package pcapng_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/cmd/patchbay/internal/pcapng"
	"github.com/patchbay-net/patchbay/integration/host"
)

func TestWriter(t *testing.T) {
	var file bytes.Buffer
	w, err := pcapng.NewWriter(&file, pcapng.Interface{Name: "pb1", Description: "container web-1", Snaplen: 100, Program: "patchbay 1.0"})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_700_000_000, 123_456_789)
	want := host.Capture{
		Name: "pb1", Description: "container web-1", Snaplen: 100, Received: 9, Dropped: 4, Ended: true,
		Frames: []host.CapturedFrame{
			{Time: at, In: true, Length: 5, Data: []byte("hello")},
			{Time: at.Add(1), Length: 9000, Data: bytes.Repeat([]byte("x"), 100)},
			{Time: at.Add(2), Length: 0, Data: []byte{}},
		},
	}
	for _, f := range want.Frames {
		d := pcapng.Outbound
		if f.In {
			d = pcapng.Inbound
		}
		if err := w.Packet(f.Time, d, f.Length, f.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Statistics(at, 9, 4); err != nil {
		t.Fatal(err)
	}
	if file.Len() > 0 {
		t.Errorf("%d bytes are written before they have to be", file.Len())
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	got, err := host.ReadCapture(file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
