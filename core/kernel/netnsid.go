package kernel

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nsGetID is NS_GET_ID of linux/nsfs.h, Linux 6.18: _IOR(0xb7, 13, __u64).
const nsGetID = 0x8008b70d

// NetnsID identifies the namespace at path by its number, which no other namespace has
// had since the boot. The kernel tells it of the open namespace (NS_GET_ID, Linux 6.18),
// or of a socket in there (SO_NETNS_COOKIE, Linux 5.14, the same number); on an older
// kernel it is the inode, which is unique among those alive.
func (l *Linux) NetnsID(path string) (NetnsID, error) {
	ns, err := openNetns(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = ns.Close() }() // read only
	id, err := netnsNumber(ns)
	if err != nil {
		id, err = netnsCookie(ns)
	}
	if errors.Is(err, unix.ENOPROTOOPT) {
		var s unix.Stat_t
		err = unix.Fstat(int(ns.Fd()), &s)
		id = s.Ino
	}
	return NetnsID(id), err
}

func netnsNumber(ns *os.File) (id uint64, err error) {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, ns.Fd(), nsGetID, uintptr(unsafe.Pointer(&id)))
	if errno != 0 {
		return 0, errno
	}
	return id, nil
}

func netnsCookie(ns *os.File) (id uint64, err error) {
	err = inNetns(ns, func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		id, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		return err
	})
	return id, err
}
