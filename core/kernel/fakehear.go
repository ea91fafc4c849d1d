package kernel

import (
	"context"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// voice is an address that somebody listens for on a netdev.
type voice struct {
	netdev string
	from   vswitch.MAC
}

// Hear is Kernel's.
func (f *Fake) Hear(ctx context.Context, netdev string, from vswitch.MAC) error {
	spoken, err := f.listen(ctx, voice{netdev, from})
	if err != nil {
		return err
	}
	select {
	case <-spoken:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *Fake) listen(ctx context.Context, to voice) (spoken <-chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.answers(ctx); err != nil {
		return nil, err
	}
	if f.host.links[to.netdev] == nil {
		return nil, noNetdev(to.netdev)
	}
	if f.voices[to] == nil {
		f.voices[to] = make(chan struct{})
	}
	return f.voices[to], nil
}

// Speak has a frame from an address come in by a netdev.
func (f *Fake) Speak(netdev string, from vswitch.MAC) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if spoken := f.voices[voice{netdev, from}]; spoken != nil {
		close(spoken)
		delete(f.voices, voice{netdev, from})
	}
}
