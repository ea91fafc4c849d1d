package host

import "time"

// backOff says when a plugin that failed may be started again: the first time at once, then
// after ever longer waits. After some failures in a row it is left alone (a circuit breaker
// that is open): then only the longest wait ends in another try.
type backOff struct {
	first, most time.Duration
	failures    int // in a row
	until       time.Time
}

// openAfter is how many failures in a row open the breaker.
const openAfter = 5

func (b *backOff) failed(now time.Time) {
	b.failures++
	b.until = now.Add(b.delay())
}

func (b *backOff) delay() time.Duration {
	switch {
	case b.failures <= 1:
		return 0
	case b.open():
		return b.most
	}
	return min(b.most, b.first<<(b.failures-2))
}

func (b *backOff) open() bool { return b.failures >= openAfter }

func (b *backOff) recovered() { *b = backOff{first: b.first, most: b.most} }

// wait is how long there is no other try.
func (b *backOff) wait(now time.Time) time.Duration { return max(0, b.until.Sub(now)) }
