package api

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/patchbay-net/patchbay/core/store"
)

// place is where a process works: patchbayd carries a verb out only for a client
// that would do the same with the same host by itself.
type place struct {
	Net   string `json:"net"`   // the network namespace, which is "the host"
	Mount string `json:"mount"` // the mount namespace, in which paths are looked up
	State string `json:"state"` // the store's directories
	Run   string `json:"run"`
}

// here is the calling thread's place.
func here(dirs store.Dirs) (place, error) {
	p := place{State: dirs.State, Run: dirs.Run}
	var err error
	if p.Net, err = namespace("/proc/thread-self/ns/net"); err != nil {
		return p, err
	}
	p.Mount, err = namespace("/proc/thread-self/ns/mnt")
	return p, err
}

// namespace identifies a namespace that is alive.
func namespace(path string) (string, error) {
	var s syscall.Stat_t
	if err := syscall.Stat(path, &s); err != nil {
		return "", &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return strconv.FormatUint(s.Dev, 10) + ":" + strconv.FormatUint(s.Ino, 10), nil
}

// difference says why a client elsewhere is not served; "" for the same place.
func (p place) difference(client place) string {
	switch {
	case p.Net != client.Net:
		return "the client is in another network namespace: this is another host"
	case p.Mount != client.Mount:
		return "the client is in another mount namespace: its paths lead elsewhere"
	case p.State != client.State, p.Run != client.Run:
		return "the client works with other directories"
	}
	return ""
}

// ownPath reports a path that means something else to every process.
func ownPath(path string) bool {
	return path != "" && path[0] != '/' ||
		strings.HasPrefix(path, "/proc/self") || strings.HasPrefix(path, "/proc/thread-self") || strings.HasPrefix(path, "/dev/fd")
}
