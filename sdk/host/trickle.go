package host

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// What of a plugin's output is passed on: so many lines at once and so many a second, and
// not more than so many bytes are even read: a plugin that floods waits for itself.
const (
	burstLines     = 200
	linesPerSecond = 50
	bytesPerSecond = 1 << 20
	longestLine    = 16 << 10
)

// trickle reads a pipe by lines and leaves out those that are too many. How many it left
// out it says in a line of its own.
type trickle struct {
	file    *os.File
	lines   *bufio.Reader
	allowed budget // of lines
	volume  budget // of bytes
	dropped int
	pending []byte // of the line that is being read by others
	long    bool   // in the middle of a line too long
}

func newTrickle(f *os.File) *trickle {
	return &trickle{
		file: f, lines: bufio.NewReaderSize(f, longestLine),
		allowed: budget{perSecond: linesPerSecond, most: burstLines, left: burstLines},
		volume:  budget{perSecond: bytesPerSecond, most: bytesPerSecond, left: bytesPerSecond},
	}
}

// endBy makes reads fail from a time on.
func (t *trickle) endBy(end time.Time) {
	_ = t.file.SetReadDeadline(end) // a pipe has one
}

// Close closes our end.
func (t *trickle) Close() error { return t.file.Close() }

// Read is io.Reader's.
func (t *trickle) Read(buf []byte) (int, error) {
	for len(t.pending) == 0 {
		line, err := t.next()
		if err != nil {
			return 0, err
		}
		t.pending = line
	}
	n := copy(buf, t.pending)
	t.pending = t.pending[n:]
	return n, nil
}

// next is a line to pass on, or nothing.
func (t *trickle) next() ([]byte, error) {
	line, err := t.lines.ReadSlice('\n')
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, os.ErrClosed) {
		err = io.EOF
	}
	if len(line) == 0 && err != nil {
		return nil, err
	}
	now := time.Now()
	if wait := t.volume.owe(now, float64(len(line))); wait > 0 {
		<-time.After(wait) // and the plugin with us, once the pipe is full
	}
	cut := errors.Is(err, bufio.ErrBufferFull)
	rest := t.long
	t.long = cut
	if rest || !t.allowed.take(now) {
		if !rest {
			t.dropped++
		}
		return nil, nil
	}
	out := bytes.Clone(line)
	if cut {
		out = append(out[:longestLine-4], "...\n"...)
	} else if out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	if t.dropped > 0 {
		out = append(fmt.Appendf(nil, "[WARN] %d lines were left out: too many at once\n", t.dropped), out...)
		t.dropped = 0
	}
	return out, nil
}

// budget refills with time.
type budget struct {
	perSecond, most, left float64
	at                    time.Time
}

func (b *budget) refill(now time.Time) {
	if !b.at.IsZero() {
		b.left = min(b.most, b.left+b.perSecond*now.Sub(b.at).Seconds())
	}
	b.at = now
}

// take spends one, if there is one.
func (b *budget) take(now time.Time) bool {
	b.refill(now)
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// owe spends n, and says how long that takes to come in again if there were fewer.
func (b *budget) owe(now time.Time, n float64) time.Duration {
	b.refill(now)
	b.left -= n
	if b.left >= 0 {
		return 0
	}
	return time.Duration(-b.left / b.perSecond * float64(time.Second))
}
