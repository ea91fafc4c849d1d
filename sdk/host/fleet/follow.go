package fleet

import (
	"errors"
	"log/slog"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// follow listens to what a plugin tells.
func (f *Fleet) follow(name string, m *member) {
	f.done.Go(func() {
		m.listen(func(bool) error {
			return m.plugin.WatchInventory(m.life, func(i sdk.Inventory) error {
				f.mu.Lock()
				m.nics, m.knows, m.failed = i.NICs, true, ""
				f.mu.Unlock()
				f.stir(name, m)
				return nil
			})
		}, func(err error, next time.Duration) bool {
			f.log.Warn("plugin failed to tell its NICs", "plugin", name, "err", err, "next try", next)
			f.fails(name, m, err.Error())
			return true
		})
	})
	f.done.Go(func() {
		m.listen(func(again bool) error {
			if again {
				f.rouse(name) // of what happened meanwhile nobody told
			}
			return m.plugin.WatchEvents(m.life, func(e sdk.Event) error {
				level := slog.LevelInfo
				if e.Kind == sdk.GrantChanged { // as often as there is another SA
					level = slog.LevelDebug
				}
				f.log.Log(m.life, level, "plugin tells", "plugin", name, "event", string(e.Kind), "nic", e.NIC, "of", e.Ref.String(), "detail", e.Detail)
				f.rouse(name)
				return nil
			})
		}, func(err error, next time.Duration) bool {
			if errors.Is(err, vswitch.CapabilityMissing) {
				return false
			}
			f.log.Warn("plugin failed to tell events", "plugin", name, "err", err, "next try", next)
			return true
		})
	})
}

// A plugin that fails to tell is asked again at once, and while it fails after ever longer
// waits: an error may be of a moment, and another process of the plugin may do better.
const (
	firstWait = time.Second
	mostWait  = time.Minute
)

// listen calls what is to go on for ever, and again when it failed, as long as the member is
// followed and failed says so.
func (m *member) listen(watch func(again bool) error, failed func(err error, next time.Duration) bool) {
	wait, again := time.Duration(0), false
	for {
		begun := time.Now()
		err := watch(again)
		if time.Since(begun) > mostWait {
			wait = 0
		}
		if m.life.Err() != nil || !failed(err, wait) {
			return
		}
		select {
		case <-time.After(wait):
		case <-m.life.Done():
			return
		}
		wait, again = min(mostWait, max(firstWait, 2*wait)), true
	}
}
