package main

import (
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"
)

// notifier tells the service manager how the daemon is, in the way of sd_notify(3);
// without one it does nothing.
type notifier struct{ socket string }

func (n notifier) tell(state string, log *slog.Logger) {
	if n.socket == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"}) // "@..." is the abstract one
	if err == nil {
		_, err = c.Write([]byte(state))
		_ = c.Close() // it is sent
	}
	if err != nil {
		log.Debug("the service manager does not listen", "socket", n.socket, "err", err)
	}
}

// watchdog tells the service manager at half its interval that the daemon lives.
// It is the one timer that ticks without anything to do, and only where the unit
// asks for it (WatchdogSec).
func (d daemon) watchdog(n notifier) (stop func()) {
	usec, err := strconv.ParseInt(d.getenv("WATCHDOG_USEC"), 10, 64)
	if pid := d.getenv("WATCHDOG_PID"); err != nil || usec <= 1 || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return func() {}
	}
	ticker := time.NewTicker(time.Duration(usec) * time.Microsecond / 2)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-ticker.C:
				n.tell("WATCHDOG=1", d.log)
			case <-done:
				return
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(done)
	}
}
