package xfrm

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Event is a change of SAs.
type Event struct {
	Kind EventKind
	SA   SA     // of Added and Removed
	By   uint32 // the Port of the Conn that did it; 0 for the kernel itself
}

// EventKind says what changed.
type EventKind uint8

// The kinds.
const (
	Added   EventKind = iota + 1 // or changed
	Removed                      // by somebody, or because its time was over
	Many                         // all were removed, or more changed than could be told
)

// parseEvent reads what the kernel tells of its own accord; false for what is no event of
// SAs, or makes no sense.
func parseEvent(m message) (Event, bool) {
	e := Event{By: m.port}
	var err error
	switch m.kind {
	case nl.XFRM_MSG_NEWSA, nl.XFRM_MSG_UPDSA:
		e.Kind = Added
		e.SA, err = Parse(m.payload)
	case nl.XFRM_MSG_DELSA:
		e.Kind = Removed
		e.SA, err = parseRemoved(m.payload)
	case nl.XFRM_MSG_EXPIRE:
		e.Kind = Removed
		if e.SA, err = parseExpired(m.payload); err == nil && m.payload[infoLen] == 0 {
			return Event{}, false // of the soft limit: it lives on
		}
	case nl.XFRM_MSG_FLUSHSA:
		e.Kind = Many
	default:
		return Event{}, false
	}
	return e, err == nil
}

// parseRemoved reads struct xfrm_usersa_id and attributes, one of which is the rest.
func parseRemoved(payload []byte) (SA, error) {
	if len(payload) < idLen {
		return SA{}, errors.New("no SA is named")
	}
	attrs, err := parseAttrs(payload[idLen:])
	if err != nil {
		return SA{}, err
	}
	for i, a := range attrs {
		if a.kind == nl.XFRMA_SA && len(a.data) >= infoLen {
			return newSA(a.data[:infoLen], append(attrs[:i:i], attrs[i+1:]...))
		}
	}
	return SA{}, errors.New("an SA without its state")
}

// parseExpired reads struct xfrm_user_expire, an SA and whether it is over, and attributes.
func parseExpired(payload []byte) (SA, error) {
	const size = infoLen + 8
	if len(payload) < size {
		return SA{}, errors.New("no SA is named")
	}
	attrs, err := parseAttrs(payload[size:])
	if err != nil {
		return SA{}, err
	}
	return newSA(payload[:infoLen], attrs)
}

// Watch hears of changes in one network namespace.
type Watch struct {
	file   *os.File
	raw    syscall.RawConn
	closed atomic.Bool
}

// watchBuffer is how much may happen while nobody reads. The kernel takes the memory only
// when it is needed.
const watchBuffer = 4 << 20

// OpenWatch makes a Watch of the network namespace that the calling thread is in. Changes
// from now on are heard of.
func OpenWatch() (*Watch, error) {
	fd, _, err := open()
	if err != nil {
		return nil, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, watchBuffer) // less than that is told as Many
	for _, group := range []int{nl.XFRMNLGRP_SA, nl.XFRMNLGRP_EXPIRE} {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group))
	}
	if err = errors.Join(err, unix.SetNonblock(fd, true)); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	w := &Watch{file: os.NewFile(uintptr(fd), "xfrm")}
	if w.raw, err = w.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, w.file.Close())
	}
	return w, nil
}

// Close ends Run.
func (w *Watch) Close() error {
	w.closed.Store(true)
	return w.file.Close()
}

// Run calls tell with what changed, all that has changed until then at once, until the Watch is
// closed.
func (w *Watch) Run(ctx context.Context, tell func([]Event)) error {
	buffer := make([]byte, datagram)
	for ctx.Err() == nil {
		var events []Event
		var got error
		err := w.raw.Read(func(fd uintptr) bool {
			events, got = hear(int(fd), buffer)
			return len(events) > 0 || !errors.Is(got, unix.EAGAIN)
		})
		if len(events) > 0 {
			tell(events)
		}
		switch {
		case w.closed.Load(): // which the runtime has another error for while it waits
			return nil
		case err != nil || got != nil && !errors.Is(got, unix.EAGAIN):
			return errors.Join(err, got)
		}
	}
	return ctx.Err()
}

// hear takes what has been told, up to a number that nobody waits long for.
func hear(fd int, buffer []byte) (events []Event, err error) {
	const most = 1000
	for len(events) < most {
		messages, err := receive(fd, buffer)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			events = append(events, Event{Kind: Many})
		case err != nil:
			return events, err
		}
		for _, m := range messages {
			if e, ok := parseEvent(m); ok {
				events = append(events, e)
			}
		}
	}
	return events, nil
}
