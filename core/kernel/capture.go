package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// CaptureRequest says which frames of a netdev are wanted, and what is done with them.
type CaptureRequest struct {
	Netdev    string
	Count     int // how many; 0 for any number
	Snaplen   int // bytes of each, at most MaxSnaplen
	Direction CaptureDirection
	From      vswitch.MAC // only frames that say something from it; zero for all
	// Frame is called for each frame, in their order; its Data is written to again.
	Frame func(CapturedFrame) error
	// Idle is called when no further frame waits.
	Idle func() error
}

// CaptureDirection is the netdev's view.
type CaptureDirection int

// The directions that can be captured.
const (
	BothDirections CaptureDirection = iota
	OnlyReceived
	OnlySent
)

// MaxSnaplen is longer than any frame.
const MaxSnaplen = 256 << 10

// CapturedFrame is a frame as it is on the wire: a tag that the kernel keeps beside it is
// back in its place.
type CapturedFrame struct {
	Time   time.Time
	Sent   bool // by the netdev, or else received
	Length int  // of which Data may hold less
	Data   []byte
}

// CaptureReport is what became of a capture.
type CaptureReport struct {
	Frames int
	// Dropped are frames that came while nobody had time for them.
	Dropped int
	// Gone says that it ended because the netdev is not there any more.
	Gone bool
}

// Capture hands on what passes a netdev of the calling thread's namespace, until ctx ends,
// which is no error, Count is reached or the netdev goes. What waits for its turn takes no
// more memory than captureBuffer.
func Capture(ctx context.Context, req CaptureRequest) (CaptureReport, error) {
	c, err := openCapture(req)
	if err != nil {
		return CaptureReport{}, err
	}
	defer func() { _ = c.file.Close() }() // nothing is written to it
	stop := context.AfterFunc(ctx, func() { _ = c.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = c.run()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	c.report.Dropped = c.dropped()
	return c.report, err
}

// captureBuffer is what the kernel may hold of frames that are not yet read: 10 ms of
// 10 Gbit/s.
const captureBuffer = 16 << 20

// capture is a socket that hears a netdev.
type capture struct {
	CaptureRequest
	index    int
	file     *os.File
	raw      syscall.RawConn
	buf, oob []byte
	report   CaptureReport
	latest   time.Time // of a frame
}

func openCapture(req CaptureRequest) (*capture, error) {
	c := &capture{CaptureRequest: req, buf: make([]byte, tagLen+req.Snaplen), oob: make([]byte, 256)}
	host, err := dialRTNL()
	if err != nil {
		return nil, err
	}
	defer host.close()
	l, err := host.link(req.Netdev)
	if isAbsent(err) {
		return nil, noNetdev(req.Netdev)
	}
	if err != nil {
		return nil, err
	}
	c.index = l.index
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("packet socket", err)
	}
	c.file = os.NewFile(uintptr(fd), "capture of "+req.Netdev)
	if err := c.prepare(fd); err != nil {
		_ = c.file.Close()
		return nil, fmt.Errorf("capture of %s: %w", req.Netdev, err)
	}
	c.raw, err = c.file.SyscallConn()
	return c, err
}

// prepare sets the socket up before it hears anything: bind is last.
func (c *capture) prepare(fd int) error {
	allProtocols := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	filter := captureFilter(c.CaptureRequest)
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, captureBuffer)
	}
	return errors.Join(
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: allProtocols, Ifindex: c.index}),
	)
}

// captureFilter takes frames of one direction, or all, and as much of each as is wanted.
func captureFilter(req CaptureRequest) (filter []unix.SockFilter) {
	const packetType = -0x1000 + 4 // SKF_AD_OFF + SKF_AD_PKTTYPE
	switch req.Direction {
	case OnlySent:
		filter = only(filter, unix.BPF_W, packetType, unix.PACKET_OUTGOING)
	case OnlyReceived:
		filter = allBut(filter, unix.BPF_W, packetType, unix.PACKET_OUTGOING)
	}
	if m := req.From; !m.IsZero() {
		filter = only(filter, unix.BPF_W, etherLen, binary.BigEndian.Uint32(m[:]))
		filter = only(filter, unix.BPF_H, etherLen+4, uint32(binary.BigEndian.Uint16(m[4:])))
		filter = allBut(filter, unix.BPF_H, 2*etherLen, etherRARP)
	}
	return append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(req.Snaplen)})
}

const etherRARP = 0x8035

// only goes on with frames that have a value somewhere, and allBut with the others.
func only(f []unix.SockFilter, size uint16, at int, value uint32) []unix.SockFilter {
	return append(f, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_ABS | size, K: uint32(at)},
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jt: 1}, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K})
}

func allBut(f []unix.SockFilter, size uint16, at int, value uint32) []unix.SockFilter {
	return append(f, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_ABS | size, K: uint32(at)},
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: 1}, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K})
}

func (c *capture) run() error {
	for c.Count == 0 || c.report.Frames < c.Count {
		frame, err := c.next()
		if errors.Is(err, unix.ENETDOWN) {
			if c.report.Gone, err = c.gone(); c.report.Gone || err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := c.Frame(frame); err != nil {
			return err
		}
		c.report.Frames++
	}
	return nil
}

// gone tells a netdev that is not there from one that is down: the socket goes on to hear
// that one when it comes up.
func (c *capture) gone() (bool, error) {
	host, err := dialRTNL()
	if err != nil {
		return false, err
	}
	defer host.close()
	l, err := host.linkAt(c.index)
	return l.name == "", err
}

// next waits for a frame.
func (c *capture) next() (CapturedFrame, error) {
	var n, oobn int
	var from unix.Sockaddr
	var err, idle error
	waits := func(fd uintptr) bool {
		for err = unix.EINTR; errors.Is(err, unix.EINTR); {
			n, oobn, _, from, err = unix.Recvmsg(int(fd), c.buf[tagLen:], c.oob, 0)
		}
		if !errors.Is(err, unix.EAGAIN) {
			return true
		}
		idle = c.Idle()
		return idle != nil
	}
	if failed := c.raw.Read(waits); failed != nil || idle != nil {
		return CapturedFrame{}, errors.Join(failed, idle)
	}
	if err != nil {
		return CapturedFrame{}, os.NewSyscallError("receive", err)
	}
	f := CapturedFrame{Data: c.buf[tagLen : tagLen+n], Length: n}
	if sll, is := from.(*unix.SockaddrLinklayer); is {
		f.Sent = sll.Pkttype == unix.PACKET_OUTGOING
	}
	err = c.beside(&f, c.oob[:oobn])
	// The kernel begins to stamp a moment after it was asked to. A frame that it has not stamped has
	// the time at which it is read, which may be after the next one's.
	if back := c.latest.Sub(f.Time); back > 0 && back < time.Second {
		f.Time = c.latest
	}
	c.latest = f.Time
	return f, err
}

const (
	tagLen       = 4
	auxiliaryLen = 20 // struct tpacket_auxdata
)

// beside reads what the kernel keeps beside a frame: its time, its length and its tag.
func (c *capture) beside(f *CapturedFrame, oob []byte) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return os.NewSyscallError("packet auxdata", err)
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16:
			f.Time = time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		case m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= auxiliaryLen:
			c.auxiliary(f, m.Data)
		}
	}
	return nil
}

// auxiliary reads a struct tpacket_auxdata (linux/if_packet.h).
func (c *capture) auxiliary(f *CapturedFrame, aux []byte) {
	status, length := number(aux), number(aux[4:])
	f.Length = int(length)
	if status&unix.TP_STATUS_VLAN_VALID == 0 || len(f.Data) < 2*etherLen {
		return
	}
	tpid := uint16(unix.ETH_P_8021Q)
	if status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
		tpid = uint16(number(aux[18:20]))
	}
	tci := uint16(number(aux[16:18]))
	copy(c.buf, f.Data[:2*etherLen])
	copy(c.buf[2*etherLen:], []byte{byte(tpid >> 8), byte(tpid), byte(tci >> 8), byte(tci)})
	f.Data = c.buf[:min(tagLen+len(f.Data), c.Snaplen)]
	f.Length += tagLen
}

// dropped asks how many frames the socket had no room for.
func (c *capture) dropped() (n int) {
	_ = c.raw.Control(func(fd uintptr) { // it is open
		if stats, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			n = int(stats.Drops)
		}
	})
	return n
}
