package kernel

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// linkSpeed is how fast a netdev in the namespace of the calling thread is, in Mbit/s; 0
// where its driver does not know, as without a link. Sysfs would show the namespace that it
// was mounted in.
func linkSpeed(name string) int {
	const get, unknown = 1, 0xffff_ffff // ETHTOOL_GSET, SPEED_UNKNOWN
	c := linkSettings{command: get}
	speed := uint32(0)
	if c.ask(name) == nil {
		speed = uint32(c.speedHigh)<<16 | uint32(c.speed)
	}
	if speed == unknown || speed == 0xffff {
		return 0
	}
	return int(speed)
}

// linkSettings are a struct ethtool_cmd, which Linux answers for every driver.
type linkSettings struct {
	command, supported, advertising uint32
	speed                           uint16
	_                               [6]uint8
	_                               [2]uint32
	speedHigh                       uint16
	_                               [2]uint8
	_                               [3]uint32
}

// ask carries out the command on a netdev in the namespace of the calling thread.
func (c *linkSettings) ask(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	request := struct { // struct ifreq
		name     [unix.IFNAMSIZ]byte
		settings unsafe.Pointer
		_        [16]byte
	}{settings: unsafe.Pointer(c)}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	runtime.KeepAlive(c)
	if errno != 0 {
		return errno
	}
	return nil
}
