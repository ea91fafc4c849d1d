package host

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Tap is a raw socket on a netdev, in promiscuous mode: it hears all and may
// send anything.
type Tap struct {
	fd  int
	mac net.HardwareAddr
}

// Tap opens a raw socket on a netdev of the namespace. It hears what passes from
// now on, but not what it sends itself.
func (n *Netns) Tap(netdev string) (*Tap, error) {
	t := &Tap{}
	err := n.Do(func() error {
		nic, err := net.InterfaceByName(netdev)
		if err != nil {
			return fmt.Errorf("%s: %w", netdev, err)
		}
		t.mac = nic.HardwareAddr
		// Born deaf (protocol 0) and bound afterwards: it never hears another netdev.
		if t.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		everything := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		err = unix.SetsockoptPacketMreq(t.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
			&unix.PacketMreq{Ifindex: int32(nic.Index), Type: unix.PACKET_MR_PROMISC})
		if err == nil {
			err = unix.Bind(t.fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: nic.Index})
		}
		if err != nil {
			err = errors.Join(err, unix.Close(t.fd))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("raw socket: %w", err)
	}
	return t, nil
}

// Close ends the tap.
func (t *Tap) Close() error { return unix.Close(t.fd) }

// MAC is the address of the tapped netdev.
func (t *Tap) MAC() net.HardwareAddr { return t.mac }

// Frame is an Ethernet frame of a local experimental EtherType (IEEE 802, 0x88b5).
type Frame struct {
	Dst, Src net.HardwareAddr
	Payload  string
}

const etherTypeExperimental = 0x88b5

// Send sends a frame as it is, whatever its source address.
func (t *Tap) Send(f Frame) error {
	b := append(append([]byte(nil), f.Dst...), f.Src...)
	b = binary.BigEndian.AppendUint16(b, etherTypeExperimental)
	b = append(b, f.Payload...)
	for len(b) < 60 {
		b = append(b, 0)
	}
	return t.SendRaw(b)
}

// SendRaw sends the bytes of a frame.
func (t *Tap) SendRaw(frame []byte) error {
	_, err := unix.Write(t.fd, frame)
	return err
}

// Hears waits for a frame with this payload and reports whether it came.
func (t *Tap) Hears(payload string, within time.Duration) (bool, error) {
	return t.await(within, func(b []byte) bool {
		return len(b) >= 14+len(payload) && binary.BigEndian.Uint16(b[12:]) == etherTypeExperimental && string(b[14:14+len(payload)]) == payload
	})
}

// HearsRaw waits for exactly this frame and reports whether it came.
func (t *Tap) HearsRaw(frame []byte, within time.Duration) (bool, error) {
	return t.await(within, func(b []byte) bool { return bytes.Equal(b, frame) })
}

func (t *Tap) await(within time.Duration, match func([]byte) bool) (bool, error) {
	buf := make([]byte, 65536)
	for deadline := time.Now().Add(within); ; {
		left := time.Until(deadline)
		if left <= 0 {
			return false, nil
		}
		tv := unix.NsecToTimeval(max(left, time.Millisecond).Nanoseconds())
		if err := unix.SetsockoptTimeval(t.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return false, err
		}
		n, from, err := unix.Recvfrom(t.fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, err
		}
		if sa, ok := from.(*unix.SockaddrLinklayer); ok && sa.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if match(buf[:n]) {
			return true, nil
		}
	}
}

// Each calls fn with the payload, up to the first zero byte, of every frame of the
// experimental EtherType that comes, with a tag or without, until stop is closed.
func (t *Tap) Each(stop <-chan struct{}, fn func(payload string)) error {
	const stride = 50 * time.Millisecond
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		_, err := t.await(stride, func(b []byte) bool {
			if len(b) > 18 && binary.BigEndian.Uint16(b[12:]) == unix.ETH_P_8021Q {
				b = b[4:]
			}
			if len(b) > 14 && binary.BigEndian.Uint16(b[12:]) == etherTypeExperimental {
				payload, _, _ := bytes.Cut(b[14:], []byte{0})
				fn(string(payload))
			}
			return false
		})
		if err != nil {
			return err
		}
	}
}
