// Package call tells what a start of the hook is about from its arguments and, without
// reading all of it, its XML: whose hook it is, whether libvirt may hear of a failure, and
// whether the object is one of ours at all.
//
// It needs nothing but the language, since it comes before anything else is initialised, and
// what is marked go:nosplit not even Go's runtime: see package handover.
package call

import "github.com/patchbay-net/patchbay/core/wire"

// The drivers whose hooks there are.
const (
	Network = "network"
	QEMU    = "qemu"
	LXC     = "lxc"
)

// Operations that are about a network or a port of one. Libvirt before 5.5 called the last
// two plugged and unplugged.
const (
	Start       = "start"
	PortCreated = "port-created"
	PortDeleted = "port-deleted"
	plugged     = "plugged"
	unplugged   = "unplugged"
)

// Operations that are about a domain, besides Start.
const (
	Prepare   = "prepare"
	Migrate   = "migrate"
	Restore   = "restore"
	Attach    = "attach"
	Reconnect = "reconnect"
	Stopped   = "stopped"
	Release   = "release"
)

// Parse reads the arguments of a start. Libvirt runs DIRECTORY/DRIVER.d/FILE, or
// DIRECTORY/hooks/DRIVER, with the object's name, the operation, a part of it and why;
// people may write the driver before these instead. ok is false for anything else.
func Parse(args []string) (c wire.HookCall, ok bool) {
	if len(args) == 0 {
		return c, false
	}
	rest := args[1:]
	c.Driver = DriverOf(args[0])
	if c.Driver == "" && len(rest) > 0 && (rest[0] == Network || rest[0] == QEMU || rest[0] == LXC) {
		c.Driver, rest = rest[0], rest[1:]
	}
	if c.Driver == "" || len(rest) < 2 {
		return wire.HookCall{}, false
	}
	c.Object, c.Operation = rest[0], Today(rest[1])
	if len(rest) > 3 {
		c.Extra = rest[3]
	}
	return c, true
}

// Today is what libvirt calls an operation since 5.5.
//
//go:nosplit
func Today(operation string) string {
	switch operation {
	case plugged:
		return PortCreated
	case unplugged:
		return PortDeleted
	}
	return operation
}

// DriverOf is the driver that a path to the hook says, DRIVER.d/FILE or hooks/DRIVER; "" for
// any other.
//
//go:nosplit
func DriverOf(path string) string {
	file := slash(path, len(path))
	dir := slash(path, max(file-1, 0))
	for i := range len(drivers) {
		d := drivers[i]
		if file > 0 && (is(path[dir:file-1], d, ".d") || is(path[dir:file-1], "hooks", "") && path[file:] == d) {
			return d
		}
	}
	return ""
}

var drivers = [...]string{Network, QEMU, LXC}

// slash is what follows the last slash of the part of path before end.
//
//go:nosplit
func slash(path string, end int) int {
	for end > 0 && path[end-1] != '/' {
		end--
	}
	return end
}

// is reports whether s is a and b together.
//
//go:nosplit
func is(s, a, b string) bool {
	return len(s) == len(a)+len(b) && s[:len(a)] == a && s[len(a):] == b
}

// Does reports whether there is anything to do in this call: what a domain is prepared for
// stands in our metadata alone.
//
//go:nosplit
func Does(c *wire.HookCall) bool {
	if c.Driver != Network && (c.Operation == Prepare || c.Operation == Restore) {
		return index(c.Stdin, namespaces) >= 0
	}
	return Begins(c)
}

// Begins reports whether there may be anything to do in this operation, whatever the document
// says. What a network is started, updated or stopped for has been looked at before, or its
// ports tell.
//
//go:nosplit
func Begins(c *wire.HookCall) bool {
	if c.Driver == Network {
		return c.Operation == Start || c.Operation == PortCreated || c.Operation == PortDeleted
	}
	switch c.Operation {
	case Prepare, Migrate, Restore, Start, Attach, Reconnect, Stopped, Release:
		return true
	}
	return false
}

// MayFail reports whether libvirt gives up what it is about when the hook fails, and that is
// right. It ends a running guest over a reconnect that fails, and leaves a bridge behind over
// a network that fails to be started; and what is deleted, stopped or released is gone.
//
//go:nosplit
func MayFail(c *wire.HookCall) bool {
	switch c.Operation {
	case PortDeleted, Reconnect, Stopped, Release:
		return false
	}
	return Begins(c)
}

// Marks of what is ours in a document.
const (
	namespaces = "https://patchbay.net/xmlns/libvirt/"
	bridge     = "bridge="
	bridges    = "pb"
	networks   = "network="
)

// Marked reports whether the document of a call bears a mark of ours: an element of one of
// our namespaces, or a bridge of ours by its name.
//
//go:nosplit
func Marked(c *wire.HookCall) bool {
	return index(c.Stdin, namespaces) >= 0 || onBridge(c.Stdin, bridge) || c.Driver == Network && bridgeElement(c.Stdin)
}

// bridgeElement looks for <bridge name='pb...'/>.
//
//go:nosplit
func bridgeElement(document []byte) bool {
	at := index(document, "<bridge ")
	if at < 0 {
		return false
	}
	end := at
	for end < len(document) && document[end] != '>' {
		end++
	}
	return onBridge(document[at:end], "name=")
}

// onBridge looks for such an attribute with a name that our bridges have.
//
//go:nosplit
func onBridge(document []byte, attribute string) bool {
	for {
		from, to := next(document, attribute)
		if from < 0 {
			return false
		}
		if to-from > len(bridges) && index(document[from:from+len(bridges)], bridges) == 0 {
			return true
		}
		document = document[to:]
	}
}

// Networks calls f with the name of each network that an interface of a domain is of. A
// name with a character that XML writes otherwise comes as it is written.
func Networks(c *wire.HookCall, f func(name string)) {
	document := c.Stdin
	for {
		from, to := next(document, networks)
		if from < 0 {
			return
		}
		f(string(document[from:to]))
		document = document[to:]
	}
}

// next is where the value of the first attribute of that name begins and ends; below zero for
// none.
//
//go:nosplit
func next(document []byte, attribute string) (from, to int) {
	for done := 0; ; {
		at := index(document[done:], attribute)
		if at < 0 {
			return -1, -1
		}
		at += done
		done = at + len(attribute)
		if at == 0 || !isSpace(document[at-1]) || done == len(document) || document[done] != '\'' && document[done] != '"' {
			continue
		}
		for i := done + 1; i < len(document); i++ {
			if document[i] == document[done] {
				return done + 1, i
			}
		}
	}
}

//go:nosplit
func isSpace(b byte) bool { return b == ' ' || b == '\n' || b == '\t' || b == '\r' }

// index is where s begins in b, or -1. It stands here because package bytes comes after most
// of the standard library.
//
//go:nosplit
func index(b []byte, s string) int {
	for i := 0; i+len(s) <= len(b); i++ {
		n := 0
		for n < len(s) && b[i+n] == s[n] {
			n++
		}
		if n == len(s) {
			return i
		}
	}
	return -1
}
