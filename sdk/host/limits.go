package host

import "time"

// Limits are how long things may take.
type Limits struct {
	Start  time.Duration // until a program has shaken hands
	Read   time.Duration // of calls that change nothing
	Change time.Duration // of calls that do
	Stop   time.Duration // to end when asked, before it is killed
	// FirstWait and MostWait bound the waits before a plugin that failed is started again.
	FirstWait, MostWait time.Duration
	// Steady is how long a plugin has to live for its failures to be forgotten.
	Steady time.Duration
}

// DefaultLimits are what patchbayd uses.
func DefaultLimits() Limits {
	return Limits{
		Start: 5 * time.Second, Read: 5 * time.Second, Change: 15 * time.Second, Stop: 3 * time.Second,
		FirstWait: time.Second, MostWait: 5 * time.Minute, Steady: time.Minute,
	}
}
