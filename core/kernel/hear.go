package kernel

import (
	"context"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Hear listens in the namespace of the calling thread.
func (l *Linux) Hear(ctx context.Context, netdev string, from vswitch.MAC) error {
	report, err := Capture(ctx, CaptureRequest{
		Netdev: netdev, Count: 1, Snaplen: 1, Direction: OnlyReceived, From: from,
		Frame: func(CapturedFrame) error { return nil }, Idle: func() error { return nil },
	})
	switch {
	case err != nil || report.Frames > 0:
		return err
	case report.Gone:
		return noNetdev(netdev)
	}
	return ctx.Err()
}
