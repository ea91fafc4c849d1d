package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Pulse sends a numbered datagram at even intervals to somebody who sends each back.
// Nobody says anything else: who is out of reach is not found again by speaking up.
type Pulse struct {
	conn    net.Conn
	echoes  net.PacketConn
	every   time.Duration
	running sync.WaitGroup
	stop    chan struct{}

	mu     sync.Mutex
	more   *sync.Cond  // a datagram was sent or came back
	came   []time.Time // when each came back, by number
	result error
}

// Outage is what a pulse has missed because of an event.
type Outage struct {
	Lost int // datagrams
	// Silence is the longest time in which none came back.
	Silence time.Duration
}

// Max has the worse of both.
func (o Outage) Max(other Outage) Outage {
	return Outage{max(o.Lost, other.Lost), max(o.Silence, other.Silence)}
}

// Pulse begins a pulse to an address of server.
func (n *Netns) Pulse(server *Netns, dst netip.Addr, every time.Duration) (*Pulse, error) {
	p := &Pulse{every: every, stop: make(chan struct{})}
	p.more = sync.NewCond(&p.mu)
	err := server.Do(func() (err error) {
		p.echoes, err = net.ListenPacket("udp", netip.AddrPortFrom(dst, 0).String())
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := p.begin(n, "udp", p.echoes.LocalAddr().String(), nil); err != nil {
		return nil, errors.Join(err, p.echoes.Close())
	}
	p.running.Go(p.echo)
	return p, nil
}

// PulseTo begins a pulse to somebody who sends back by himself.
func (n *Netns) PulseTo(dst netip.AddrPort, every time.Duration) (*Pulse, error) {
	p := &Pulse{every: every, stop: make(chan struct{})}
	p.more = sync.NewCond(&p.mu)
	return p, p.begin(n, "udp", dst.String(), nil)
}

// PingTo begins a pulse of pings, to IPv4: kernels answer them, whether a program has its turn
// or not.
func (n *Netns) PingTo(dst netip.Addr, every time.Duration) (*Pulse, error) {
	p := &Pulse{every: every, stop: make(chan struct{})}
	p.more = sync.NewCond(&p.mu)
	return p, p.begin(n, "ip4:icmp", dst.String(), &pinger{dst: dst, id: uint16(rand.Uint32())})
}

func (p *Pulse) begin(from *Netns, network, to string, by *pinger) error {
	err := from.Do(func() error {
		c, err := net.Dial(network, to)
		if p.conn = c; by != nil {
			p.conn = pingConn{c, by}
		}
		return err
	})
	if err != nil {
		return err
	}
	p.running.Go(p.send)
	p.running.Go(p.receive)
	return nil
}

// pingConn carries what is written to it there and back by pings.
type pingConn struct {
	net.Conn
	by *pinger
}

func (c pingConn) Write(number []byte) (int, error) {
	_, err := c.Conn.Write(c.by.request(1, binary.BigEndian.Uint64(number)))
	return len(number), err
}

func (c pingConn) Read(number []byte) (int, error) {
	packet := make([]byte, 1500)
	for {
		n, err := c.Conn.Read(packet)
		if err != nil {
			return 0, err
		}
		from := &unix.SockaddrInet4{Addr: c.by.dst.As4()} // the socket hears nobody else
		if c.by.answers(packet[:n], from, 1) {
			return copy(number, packet[n-len(number):n]), nil
		}
	}
}

func (p *Pulse) echo() {
	b := make([]byte, 8)
	for {
		n, from, err := p.echoes.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = p.echoes.WriteTo(b[:n], from)
	}
}

func (p *Pulse) send() {
	ticker := time.NewTicker(p.every)
	defer ticker.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
		}
		p.mu.Lock()
		number := len(p.came)
		p.came = append(p.came, time.Time{})
		p.more.Broadcast()
		p.mu.Unlock()
		_, _ = p.conn.Write(binary.BigEndian.AppendUint64(nil, uint64(number))) // one that is refused is lost
	}
}

func (p *Pulse) receive() {
	b := make([]byte, 8)
	for {
		_, err := p.conn.Read(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // unreachable for a moment
		}
		p.mu.Lock()
		if number := binary.BigEndian.Uint64(b); number < uint64(len(p.came)) && p.came[number].IsZero() {
			p.came[number] = time.Now()
		}
		p.more.Broadcast()
		p.mu.Unlock()
	}
}

// During carries an event out while the pulse goes on and waits until a second's worth of
// datagrams in a row has come back after it.
func (p *Pulse) During(event func(), patience time.Duration) (Outage, error) {
	p.mu.Lock()
	first := len(p.came)
	p.mu.Unlock()
	start := time.Now()
	event()
	late := time.AfterFunc(patience, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.result = fmt.Errorf("no answer within %v", patience)
		p.more.Broadcast()
	})
	defer late.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.result = nil
	calm := int(250 * time.Millisecond / p.every)
	after := len(p.came)
	for !p.whole(after, calm) && p.result == nil {
		p.more.Wait()
	}
	return p.outage(first, start), p.result
}

// whole reports that there are so many datagrams in a row behind a number that have all
// come back, at the end of which there may be one on its way.
func (p *Pulse) whole(after, calm int) bool {
	row := 0
	for _, came := range p.came[after:] {
		if row++; came.IsZero() {
			row = 0
		}
		if row == calm {
			return true
		}
	}
	return false
}

// outage is about the datagrams from a number to the last that came back.
func (p *Pulse) outage(first int, start time.Time) (o Outage) {
	end := len(p.came)
	for end > first && p.came[end-1].IsZero() {
		end--
	}
	last := start
	for _, came := range p.came[first:end] {
		if came.IsZero() {
			o.Lost++
			continue
		}
		o.Silence = max(o.Silence, came.Sub(last))
		last = came
	}
	return o
}

// Close ends the pulse.
func (p *Pulse) Close() error {
	close(p.stop)
	err := p.conn.Close()
	if p.echoes != nil {
		err = errors.Join(err, p.echoes.Close())
	}
	p.running.Wait()
	return err
}
