package wire

import (
	"errors"
	"strconv"
	"syscall"
)

// Where the store and patchbayd's socket live can be moved, for tests and for
// several hosts on one machine, each in a network namespace of its own.
const (
	StateDirEnv = "PATCHBAY_STATE_DIR" // instead of /var/lib/patchbay
	RunDirEnv   = "PATCHBAY_RUN_DIR"   // instead of /run/patchbay
)

const (
	defaultState = "/var/lib/patchbay"
	defaultRun   = "/run/patchbay"
	socketName   = "/patchbayd.sock"
)

// Dirs are the store's directories that the environment names, or else the default ones.
func Dirs() (state, run string) {
	state, run = defaultState, defaultRun
	if d, _ := syscall.Getenv(StateDirEnv); d != "" {
		state = d
	}
	if d, _ := syscall.Getenv(RunDirEnv); d != "" {
		run = d
	}
	return state, run
}

// SocketPath is where patchbayd listens.
func SocketPath(runDir string) string { return runDir + socketName }

// Build names the build that a program is of; the linker sets it for all programs
// alike. Two programs of one build agree on all that travels.
var Build = "dev"

// Place is where a process works: patchbayd carries a verb out only for a client
// that would do the same with the same host by itself.
type Place struct {
	Net   string `json:"net"`   // the network namespace, which is "the host"
	Mount string `json:"mount"` // the mount namespace, in which paths are looked up
	State string `json:"state"` // the store's directories
	Run   string `json:"run"`
}

// Where the kernel shows a thread's namespaces.
const (
	netNamespace   = "/proc/thread-self/ns/net"
	mountNamespace = "/proc/thread-self/ns/mnt"
)

// Here is the calling thread's place, with these directories.
func Here(state, run string) (Place, error) {
	p := Place{State: state, Run: run}
	var err error
	if p.Net, err = namespace(netNamespace); err != nil {
		return p, err
	}
	p.Mount, err = namespace(mountNamespace)
	return p, err
}

// namespace identifies a namespace that is alive.
func namespace(path string) (string, error) {
	var s syscall.Stat_t
	if err := syscall.Stat(path, &s); err != nil {
		return "", errors.Join(errors.New("stat "+path), err)
	}
	return strconv.FormatUint(s.Dev, 10) + ":" + strconv.FormatUint(s.Ino, 10), nil
}

// Difference says why a client elsewhere is not served; "" for the same place.
func (p Place) Difference(client Place) string {
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

// OwnPath reports a path that means something else to every process.
func OwnPath(path string) bool {
	return path != "" && path[0] != '/' ||
		begins(path, "/proc/self") || begins(path, "/proc/thread-self") || begins(path, "/dev/fd")
}

func begins(s, with string) bool { return len(s) >= len(with) && s[:len(with)] == with }
