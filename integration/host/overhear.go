package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Overhear calls fn with every frame that comes to a netdev of the namespace, of those
// there are now, in the order in which they come, until end is called.
func (n *Netns) Overhear(fn func(netdev string, frame []byte)) (end func() error, err error) {
	names := make(map[int]string)
	fd := -1
	err = n.Do(func() error {
		all, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, nic := range all {
			names[nic.Index] = nic.Name
		}
		everything := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(everything))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("overhear: %w", err)
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- overhear(fd, stop, names, fn) }()
	return func() error {
		close(stop)
		return errors.Join(<-done, unix.Close(fd))
	}, nil
}

func overhear(fd int, stop <-chan struct{}, names map[int]string, fn func(string, []byte)) error {
	stride := unix.NsecToTimeval(50e6)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &stride); err != nil {
		return err
	}
	buf := make([]byte, 65536)
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		size, from, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		sa, ok := from.(*unix.SockaddrLinklayer)
		if !ok || sa.Pkttype == unix.PACKET_OUTGOING || names[sa.Ifindex] == "" {
			continue
		}
		fn(names[sa.Ifindex], buf[:size])
	}
}
