package handover

import (
	"syscall"

	"github.com/patchbay-net/patchbay/libvirt-hook/call"
)

// A network of ours is noted by an empty file of its name below the run directory, which is
// gone when the host reboots. It only saves asking patchbayd about domains of others: one
// that is missing is made by the next call, one too many costs a question.
const noteDir = "/libvirt"

// note keeps the note of a network.
func note(run, name string, marked bool, operation string) {
	path := run + noteDir + "/" + fileName(name)
	there := syscall.Access(path, 0) == nil
	switch {
	case marked && !there:
		_ = syscall.Mkdir(run, 0o700)
		_ = syscall.Mkdir(run+noteDir, 0o700)
		fd, err := syscall.Open(path, syscall.O_CREAT|syscall.O_WRONLY|syscall.O_CLOEXEC, 0o600)
		if err == nil {
			_ = syscall.Close(fd)
		}
	case !marked && there && operation == call.Start:
		_ = syscall.Unlink(path)
	}
}

// noted reports whether the network is one of ours, as its name is written in a domain. Of a
// name that XML writes otherwise nobody knows.
func noted(run, name string) bool {
	for i := range len(name) {
		if name[i] == '&' {
			return true
		}
	}
	return name != "" && syscall.Access(run+noteDir+"/"+fileName(name), 0) == nil
}

// fileName is a network's name as a file's: what could lead elsewhere is replaced by its
// code.
func fileName(name string) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, len(name))
	for i := range len(name) {
		if b := name[i]; escaped(name, i) {
			out = append(out, '%', digits[b>>4], digits[b&15])
		} else {
			out = append(out, b)
		}
	}
	return string(out)
}

// escaped reports whether a byte of a name could lead elsewhere.
//
//go:nosplit
func escaped(name string, i int) bool {
	b := name[i]
	return b == '/' || b == '%' || b == 0 || b == '.' && i == 0
}
