package wire

import (
	"syscall"
	"unsafe"
)

// Early hands a call to patchbayd before Go's runtime has begun, for a process that is
// nothing yet but what the kernel has made of it: see cni/handover and libvirt-hook/handover.
//
// So nothing in this file allocates, grows the stack or panics, and no function of it calls
// another one that might (TestEarlyNeedsNoRuntime). It does what Ask and AskHook do for a call as
// they all are, and leaves what is longer, and what goes wrong, to the runtime.
type Early struct {
	// Stdin is what was read of standard input, if anything was, whatever came of the call:
	// nobody can read that again.
	Stdin []byte
	// Asked says that patchbayd was asked, or need not be: Ask would not fare better.
	Asked bool
	// Alone, Done and Late are Ask's and AskHook's.
	Alone, Done, Late bool

	state, run string
	used       int // of room
	address    syscall.RawSockaddrUnix
	patience   syscall.Timeval
	stat       syscall.Stat_t
	room       [earlyRoom]byte // the request
	answer     [earlyRoom]byte
	from, end  int // what of answer follows the status
}

// noGoroutine is where a thread looks for what it runs, while it runs none.
var noGoroutine [2]uintptr //nolint:unused // start_amd64.s sets FS to it

// earlyRoom is plenty for an attachment. The kernel gives what is touched of it.
const earlyRoom = 64 << 10

// Paths for the kernel, which wants a zero byte behind them.
const (
	netPath   = netNamespace + "\x00"
	mountPath = mountNamespace + "\x00"
)

// Begin begins a request with such a mark. The environment is that on a process's first
// stack. It reports false where there is no patchbayd to ask.
//
//go:nosplit
func (e *Early) Begin(env unsafe.Pointer, mark byte) bool {
	if e.state = Variable(env, StateDirEnv); e.state == "" {
		e.state = defaultState
	}
	if e.run = Variable(env, RunDirEnv); e.run == "" {
		e.run = defaultRun
	}
	if !e.locate() {
		return false
	}
	e.used = FrameHeader
	e.putByte(mark)
	e.Put(Build)
	if !e.namespace(netPath) || !e.namespace(mountPath) {
		return false
	}
	e.Put(e.state)
	e.Put(e.run)
	return true
}

// locate sets the address, and reports whether something is there.
//
//go:nosplit
func (e *Early) locate() bool {
	path := &e.address.Path
	if len(e.run)+len(socketName) >= len(path) {
		return false
	}
	e.address.Family = syscall.AF_UNIX
	n := 0
	for i := 0; i < len(e.run) && n < len(path); i++ {
		path[n] = int8(e.run[i])
		n++
	}
	for i := 0; i < len(socketName) && n < len(path); i++ {
		path[n] = int8(socketName[i])
		n++
	}
	return system(syscall.SYS_ACCESS, uintptr(unsafe.Pointer(path)), 0, 0, 0) == 0
}

// Read adds standard input to the request, and reports whether it has found room.
//
//go:nosplit
func (e *Early) Read() bool {
	begin := e.used
	for e.used < len(e.room) {
		n := system(syscall.SYS_READ, 0, uintptr(unsafe.Pointer(&e.room[e.used])), uintptr(len(e.room)-e.used), 0)
		if n == -int(syscall.EINTR) {
			continue
		}
		if n > 0 {
			e.used += n
			e.Stdin = e.room[begin:e.used]
			continue
		}
		size := e.used - FrameHeader
		e.room[0], e.room[1], e.room[2], e.room[3] = byte(size>>24), byte(size>>16), byte(size>>8), byte(size)
		return n == 0
	}
	return false
}

// Ask sends the request and waits for the answer, in microseconds: so long for a sign of
// patchbayd, and so long for the rest once the request is taken, if that is not 0.
//
//go:nosplit
func (e *Early) Ask(silent, busy int64) {
	e.Asked, e.Alone = true, true
	fd := system(syscall.SYS_SOCKET, syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0, 0)
	if fd < 0 {
		return
	}
	conn := uintptr(fd)
	e.wait(conn, syscall.SO_SNDTIMEO, silent)
	e.wait(conn, syscall.SO_RCVTIMEO, silent)
	if e.connect(conn) && e.send(conn) {
		e.await(conn, busy)
	}
	system(syscall.SYS_CLOSE, conn, 0, 0, 0) // a patchbayd that comes to it later does not begin
}

//go:nosplit
func (e *Early) wait(conn, option uintptr, patience int64) {
	e.patience.Sec, e.patience.Usec = patience/1_000_000, patience%1_000_000
	_, _, _ = syscall.RawSyscall6(syscall.SYS_SETSOCKOPT, conn, syscall.SOL_SOCKET, option, uintptr(unsafe.Pointer(&e.patience)), unsafe.Sizeof(e.patience), 0)
}

//go:nosplit
func (e *Early) connect(conn uintptr) bool {
	for {
		switch system(syscall.SYS_CONNECT, conn, uintptr(unsafe.Pointer(&e.address)), unsafe.Sizeof(e.address), 0) {
		case 0:
			return true
		case -int(syscall.EINTR):
		default:
			return false
		}
	}
}

//go:nosplit
func (e *Early) send(conn uintptr) bool {
	for sent := 0; sent < e.used; {
		n := system(syscall.SYS_SENDTO, conn, uintptr(unsafe.Pointer(&e.room[sent])), uintptr(e.used-sent), syscall.MSG_NOSIGNAL)
		if n == -int(syscall.EINTR) {
			continue
		}
		if n <= 0 {
			return false
		}
		sent += n
	}
	return true
}

// await reads what patchbayd says.
//
//go:nosplit
func (e *Early) await(conn uintptr, busy int64) {
	const header = 1 + FrameHeader
	got, end, taken := 0, header, false
	for got < end && got < len(e.answer) {
		n := system(syscall.SYS_READ, conn, uintptr(unsafe.Pointer(&e.answer[got])), uintptr(len(e.answer)-got), 0)
		if n == -int(syscall.EINTR) {
			continue
		}
		if n <= 0 {
			e.Late = taken && n == -int(syscall.EAGAIN)
			return
		}
		if got == 0 && e.answer[0] == Taken {
			taken = true
			e.wait(conn, syscall.SO_RCVTIMEO, busy)
			for i := 1; i < n && i < len(e.answer); i++ {
				e.answer[i-1] = e.answer[i]
			}
			n--
		}
		if got += n; got < header {
			continue
		}
		size := int(e.answer[1])<<24 | int(e.answer[2])<<16 | int(e.answer[3])<<8 | int(e.answer[4])
		switch {
		case e.answer[0] == Refused, e.answer[0] == Answered && size == 0:
			e.Alone = false
			return
		case e.answer[0] != Answered:
			return
		case size > len(e.answer)-header:
			e.Asked, e.Alone = false, false // it is told again, to who has more room
			return
		}
		end = header + size
	}
	e.Done, e.Alone = true, false
	e.from, e.end = header+1, end
}

// Failed is that of the answer.
//
//go:nosplit
func (e *Early) Failed() bool { return e.answer[e.from-1] != 0 }

// Out is that of the answer.
//
//go:nosplit
func (e *Early) Out() []byte { return e.answer[e.from:e.end] }

// Print writes the answer to standard output and ends the process with its status.
//
//go:nosplit
func (e *Early) Print() {
	for from := e.from; from < e.end && e.end <= len(e.answer); {
		n := system(syscall.SYS_WRITE, 1, uintptr(unsafe.Pointer(&e.answer[from])), uintptr(e.end-from), 0)
		switch {
		case n >= 0:
			from += n
		case n == -int(syscall.EAGAIN): // the runtime has left its end so, and with that ours
			flags := system(syscall.SYS_FCNTL, 1, syscall.F_GETFL, 0, 0)
			if flags < 0 || system(syscall.SYS_FCNTL, 1, syscall.F_SETFL, uintptr(flags&^syscall.O_NONBLOCK), 0) < 0 {
				Exit(1)
			}
		case n != -int(syscall.EINTR):
			Exit(1)
		}
	}
	if e.Failed() {
		Exit(1)
	}
	Exit(0)
}

// Exit ends the process.
//
//go:nosplit
func Exit(status uintptr) {
	for {
		system(syscall.SYS_EXIT_GROUP, status, 0, 0, 0)
	}
}

// namespace puts what identifies a namespace, as Here has it.
//
//go:nosplit
func (e *Early) namespace(path string) bool {
	if system(syscall.SYS_STAT, uintptr(unsafe.Pointer(unsafe.StringData(path))), uintptr(unsafe.Pointer(&e.stat)), 0, 0) != 0 {
		return false
	}
	e.number(e.stat.Dev)
	e.putByte(':')
	e.number(e.stat.Ino)
	e.putByte(0)
	return true
}

//go:nosplit
func (e *Early) number(n uint64) {
	unit := uint64(1)
	for n/unit >= 10 {
		unit *= 10
	}
	for ; unit > 0; unit /= 10 {
		e.putByte('0' + byte(n/unit%10))
	}
}

// Put adds a field.
//
//go:nosplit
func (e *Early) Put(field string) {
	for i := 0; i < len(field); i++ {
		e.putByte(field[i])
	}
	e.putByte(0)
}

// putByte adds to the request. What finds no room leaves none for standard input either.
//
//go:nosplit
func (e *Early) putByte(b byte) {
	if e.used < len(e.room) {
		e.room[e.used] = b
		e.used++
	}
}

// Variable is that of an environment; "" for none. It is the first one of the name, as for
// package os.
//
//go:nosplit
func Variable(env unsafe.Pointer, name string) string {
	for ; *(*unsafe.Pointer)(env) != nil; env = unsafe.Add(env, unsafe.Sizeof(env)) {
		word := *(*unsafe.Pointer)(env)
		n := 0
		for n < len(name) && *(*byte)(unsafe.Add(word, n)) == name[n] {
			n++
		}
		if n < len(name) || *(*byte)(unsafe.Add(word, n)) != '=' {
			continue
		}
		return Text(unsafe.Add(word, n+1))
	}
	return ""
}

// Text is what stands before a zero byte.
//
//go:nosplit
func Text(at unsafe.Pointer) string {
	n := 0
	for *(*byte)(unsafe.Add(at, n)) != 0 {
		n++
	}
	return unsafe.String((*byte)(at), n)
}

// Exists reports whether there is a file of that name in a directory of the run directory,
// which begins with a slash.
//
//go:nosplit
func (e *Early) Exists(dir, name string) bool {
	n := e.copy(e.copy(e.copy(e.copy(0, e.run), dir), "/"), name)
	if n >= len(e.answer) {
		return false
	}
	e.answer[n] = 0
	return system(syscall.SYS_ACCESS, uintptr(unsafe.Pointer(&e.answer)), 0, 0, 0) == 0
}

// copy puts a text where the answer will be, and returns where it ends.
//
//go:nosplit
func (e *Early) copy(at int, text string) int {
	for i := 0; i < len(text) && at < len(e.answer); i++ {
		e.answer[at] = text[i]
		at++
	}
	return at
}

// system makes a system call. Below zero is the error.
//
//go:nosplit
func system(number, a, b, c, d uintptr) int {
	result, _, errno := syscall.RawSyscall6(number, a, b, c, d, 0, 0)
	if errno != 0 {
		return -int(errno)
	}
	return int(result)
}
