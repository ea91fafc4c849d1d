package host

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Stream is a TCP connection on which a byte goes there and back without a pause.
type Stream struct {
	conn     net.Conn
	listener net.Listener   // of TCP
	echoes   net.PacketConn // of UDP
	again    time.Duration  // after which a datagram is sent again; 0: never
	stopped  chan struct{}  // closed by Close
	running  sync.WaitGroup
	ready    chan struct{} // closed when the first byte has come back

	mu      sync.Mutex
	came    *sync.Cond // a byte came back, or none will
	longest time.Duration
	rounds  int
	err     error
}

// streamPatience is how long a byte may take before the connection counts as dead: TCP waits
// twice as long after each try, and in an emulated machine a NIC takes long to come back.
const streamPatience = time.Minute

// Connect opens a stream from an address of n (or any, if src is not valid) to an
// address of server.
func (n *Netns) Connect(src netip.Addr, server *Netns, dst netip.Addr) (*Stream, error) {
	s := &Stream{ready: make(chan struct{}), stopped: make(chan struct{})}
	s.came = sync.NewCond(&s.mu)
	err := server.Do(func() (err error) {
		s.listener, err = net.Listen("tcp", netip.AddrPortFrom(dst, 0).String())
		return err
	})
	if err != nil {
		return nil, err
	}
	s.running.Go(s.echo)
	err = n.Do(func() (err error) {
		d := net.Dialer{Timeout: streamPatience}
		if src.IsValid() {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(src, 0))
		}
		s.conn, err = d.Dial("tcp", s.listener.Addr().String())
		return err
	})
	if err != nil {
		return nil, errors.Join(err, s.listener.Close())
	}
	s.running.Go(s.pump)
	<-s.ready
	return s, s.failure()
}

func (s *Stream) echo() {
	c, err := s.listener.Accept()
	if err != nil {
		return
	}
	closed := make(chan struct{})
	go func() {
		select { // nobody hears of the other end's closing where the network is gone
		case <-s.stopped:
		case <-closed:
		}
		_ = c.Close()
	}()
	_, _ = io.Copy(c, c)
	close(closed)
}

func (s *Stream) pump() {
	first := sync.OnceFunc(func() { close(s.ready) })
	defer first()
	b := []byte{0}
	for {
		start := time.Now()
		err := s.round(b, start.Add(streamPatience))
		s.mu.Lock()
		if s.err = err; err == nil {
			s.rounds++
			s.longest = max(s.longest, time.Since(start))
		}
		s.came.Broadcast()
		s.mu.Unlock()
		if err != nil {
			return
		}
		first()
	}
}

// round takes a byte there and back.
func (s *Stream) round(b []byte, deadline time.Time) error {
	for {
		try := deadline
		if s.again > 0 {
			try = time.Now().Add(s.again)
		}
		_ = s.conn.SetDeadline(try)
		_, err := s.conn.Write(b)
		if err == nil {
			_, err = io.ReadFull(s.conn, b)
		}
		if err == nil || s.again == 0 || time.Now().After(deadline) || errors.Is(err, net.ErrClosed) {
			return err
		}
	}
}

func (s *Stream) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Longest returns the longest time that a byte was on its way since the last call, the
// one included that is on its way now, or why the connection is dead.
func (s *Stream) Longest() (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for last := s.rounds + 2; s.rounds < last && s.err == nil; { // the next one may have come already
		s.came.Wait()
	}
	longest := s.longest
	s.longest = 0
	if s.err != nil {
		return longest, fmt.Errorf("the connection died: %w", s.err)
	}
	return longest, nil
}

// Close ends the stream.
func (s *Stream) Close() error {
	close(s.stopped)
	err := s.conn.Close()
	if s.listener != nil {
		err = errors.Join(err, s.listener.Close())
	}
	if s.echoes != nil {
		err = errors.Join(err, s.echoes.Close())
	}
	s.running.Wait()
	return err
}

// Probe is Connect by UDP: a datagram that is lost is sent again after a millisecond,
// so that the longest silence is that of the network, not that of TCP, which waits for
// 200 ms and more until it repeats what was lost.
func (n *Netns) Probe(server *Netns, dst netip.Addr) (*Stream, error) {
	s := &Stream{ready: make(chan struct{}), stopped: make(chan struct{}), again: time.Millisecond}
	s.came = sync.NewCond(&s.mu)
	err := server.Do(func() (err error) {
		s.echoes, err = net.ListenPacket("udp", netip.AddrPortFrom(dst, 0).String())
		return err
	})
	if err != nil {
		return nil, err
	}
	s.running.Go(func() {
		b := make([]byte, 1)
		for {
			_, from, err := s.echoes.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = s.echoes.WriteTo(b, from)
		}
	})
	err = n.Do(func() (err error) { s.conn, err = net.Dial("udp", s.echoes.LocalAddr().String()); return err })
	if err != nil {
		return nil, errors.Join(err, s.echoes.Close())
	}
	s.running.Go(s.pump)
	<-s.ready
	return s, s.failure()
}
