package kernel

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
)

// departures answers deletions at the notification that a netdev is gone
// (RTM_DELLINK). By then its name is free, in both namespaces of a pair; the
// acknowledgement comes when no processor can use it any more, 16 ms later or so
// (rcu_barrier in netdev_run_todo), and the sender is held until then.
type departures struct {
	sending chan struct{} // one for each request that is under way behind an answer
	work    sync.WaitGroup

	mu      sync.Mutex // of all below
	watch   *os.File   // nil until the first deletion
	waiting map[int][]*departure
	failed  error // the first failure behind an answer
}

// withDepartures runs fn with the departures of a resident process, or else, where rules go
// after netdevs, with some that end with it: the kernel gets rid of both at the same time.
func (l *Linux) withDepartures(steps []plan.Step, fn func(*departures) error) error {
	if l.departures != nil || !rulesFollow(steps) {
		return fn(l.departures)
	}
	d := newDepartures()
	err := fn(d)
	return errors.Join(err, d.close())
}

// rulesFollow reports that rules are changed after a netdev has been deleted.
func rulesFollow(steps []plan.Step) (follow bool) {
	deletes := false
	for _, s := range steps {
		switch s.(type) {
		case plan.DeleteNetdev, plan.DeleteNetdevs:
			deletes = true
		case plan.SetRules:
			follow = follow || deletes
		}
	}
	return follow
}

// departure is one deletion of one or many netdevs.
type departure struct {
	left int           // netdevs that are still to go
	gone chan struct{} // closed when none is left
}

// maxSending bounds the requests that go on behind answers, and with that the threads
// that they hold. One that finds no room is answered when it is acknowledged.
const maxSending = 64

func newDepartures() *departures {
	return &departures{sending: make(chan struct{}, maxSending), waiting: make(map[int][]*departure)}
}

// sendOff carries out requests that delete the netdevs of these numbers, and returns
// when all of them are gone, or at the acknowledgement if that comes first: where a
// notification was lost, or a netdev was gone before.
func (l *Linux) sendOff(d *departures, indexes []int, requests []request) error {
	select {
	case d.sending <- struct{}{}:
	default:
		return l.host(func(c *rtnl) error { return c.do(requests) })
	}
	c, err := l.rtnetlink.take()
	if err != nil {
		<-d.sending
		return err
	}
	gone, err := d.expect(indexes)
	if err != nil {
		defer func() { <-d.sending }()
		defer l.rtnetlink.give(c)
		return c.do(requests) // what cannot be watched is waited for
	}
	acknowledged := make(chan error, 1)
	d.work.Go(func() {
		err := c.do(requests)
		d.forget(gone, indexes, err)
		l.rtnetlink.give(c)
		<-d.sending
		acknowledged <- err
	})
	select {
	case <-gone.gone:
		return nil
	case err := <-acknowledged:
		return err
	}
}

// expect begins to wait for netdevs to go, which must not have been asked for yet.
func (d *departures) expect(indexes []int) (*departure, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.watch == nil {
		f, err := openWatch(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK)
		if err != nil {
			return nil, err
		}
		d.watch = f
		ignoreOthers(f)
		d.work.Go(func() { d.read(f) })
	}
	gone := &departure{left: len(indexes), gone: make(chan struct{})}
	for _, i := range indexes {
		d.waiting[i] = append(d.waiting[i], gone)
	}
	return gone, nil
}

// forget ends the wait. What failed after the answer is kept for close.
func (d *departures) forget(gone *departure, indexes []int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if gone.left == 0 {
		if d.failed == nil {
			d.failed = err
		}
		return
	}
	for _, i := range indexes {
		d.drop(i, gone)
	}
}

func (d *departures) drop(index int, gone *departure) {
	var rest []*departure
	for _, other := range d.waiting[index] {
		if other != gone {
			rest = append(rest, other)
		}
	}
	if len(rest) == 0 {
		delete(d.waiting, index)
	} else {
		d.waiting[index] = rest
	}
}

// read takes notifications until the watch is closed. Nothing has to be done about
// those that were lost, or after a failure: the acknowledgements come all the same.
func (d *departures) read(f *os.File) {
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		if errors.Is(err, unix.ENOBUFS) {
			continue
		}
		if err != nil {
			return
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			continue
		}
		for _, m := range messages {
			if index, gone := departed(m); gone {
				d.left(index)
			}
		}
	}
}

// departed tells which netdev has left the namespace. A bridge sends a message of the
// same type, in its own family, of a port that has only left the bridge.
func departed(m syscall.NetlinkMessage) (index int, gone bool) {
	if m.Header.Type != unix.RTM_DELLINK || len(m.Data) < unix.SizeofIfInfomsg || m.Data[0] != unix.AF_UNSPEC {
		return 0, false
	}
	return int(nl.DeserializeIfInfomsg(m.Data).Index), true
}

// left tells those who wait that a netdev is gone.
func (d *departures) left(index int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, gone := range d.waiting[index] {
		if gone.left--; gone.left == 0 {
			close(gone.gone)
		}
	}
	delete(d.waiting, index)
}

// ignoreOthers has the kernel pass on RTM_DELLINK alone, so that the reader sleeps
// while netdevs come and change. Where it cannot, the reader sorts them out.
func ignoreOthers(f *os.File) {
	kind := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.RTM_DELLINK)) // as the filter loads it
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 4}, // nlmsghdr.nlmsg_type
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(kind), Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: ^uint32(0)},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	})
}

// close waits for the requests under way and ends the watch.
func (d *departures) close() error {
	for range maxSending {
		d.sending <- struct{}{}
	}
	d.mu.Lock()
	if d.watch != nil {
		_ = d.watch.Close()
	}
	d.mu.Unlock()
	d.work.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}
