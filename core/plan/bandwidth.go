package plan

import (
	"fmt"
	"strings"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Limits hold back what goes by a port, each way by itself.
type Limits struct {
	// To is what goes to the owner, From what comes from him.
	To, From Shape
	// Via is the netdev of ours that holds back what comes from the owner, since Linux
	// shapes only what leaves a netdev; Alias is its mark. They follow from the port, and
	// are not compared.
	Via, Alias string
}

// Any reports whether there is any: of a scope, that one looks for them.
func (l Limits) Any() bool { return !l.To.IsZero() || !l.From.IsZero() }

// Shape is a token bucket: so many bytes a second, so many at once after a pause, and so
// many that wait for their turn before what comes is dropped. The zero value is none.
type Shape struct{ Rate, Burst, Queue uint64 }

// InParts is a Shape of which there is something, and not all that belongs to it.
func InParts() Shape { return Shape{Queue: 1} }

// IsZero reports whether nothing is held back.
func (s Shape) IsZero() bool { return s == Shape{} }

// Frames are what a Shape has room for at the least, however slow it is: with less no
// frame would ever pass, and TCP would find no pace.
const (
	burstFrames = 4
	queueFrames = 16
)

// burstTime and queueTime are what a Shape lets through at once and holds back at the
// most, in seconds of its rate: 10 ms and 50 ms. What a kernel that is busy comes later than
// the burst for is lost: of a slow Shape, whose 10 ms are few frames, 16 of them pass at once
// if that is within slowTime.
const (
	burstTime, queueTime = 0.010, 0.050
	slowTime, slowFrames = 0.050, 16
)

// ShapeOf is the token bucket of a limit on a port of an MTU.
func ShapeOf(l vswitch.Limit, mtu int) Shape {
	if l.Max == 0 {
		return Shape{}
	}
	const header = 14 + 2*4 // Ethernet and two tags
	frame := uint64(mtu + header)
	s := Shape{Rate: uint64(l.Max / 8), Burst: uint64(l.Burst / 8)}
	if s.Burst == 0 {
		s.Burst = max(uint64(float64(s.Rate)*burstTime), min(uint64(float64(s.Rate)*slowTime), slowFrames*frame))
	}
	s.Burst = max(s.Burst, burstFrames*frame)
	s.Queue = max(uint64(float64(s.Rate)*queueTime), queueFrames*frame) + s.Burst
	return s
}

// SetLimits brings a port to its limits, from Had, which it has been seen to have.
type SetLimits struct {
	Port   string
	Limits Limits
	Had    Limits
	Group  uint32
}

func (SetLimits) step() {}

func (s SetLimits) String() string {
	var words []string
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if s.Limits.To != s.Had.To {
		add("%s", s.Limits.To.on(s.Port))
	}
	switch {
	case s.Limits.From == s.Had.From:
	case s.Limits.From.IsZero():
		add("tc filter del dev %s ingress pref %d", s.Port, ShaperPreference)
		add("ip link del %s", s.Limits.Via)
	case s.Steered():
		add("%s", s.Limits.From.on(s.Limits.Via))
	default:
		add("ip link add %s group %#x type ifb", s.Limits.Via, s.Group)
		add("%s", s.Limits.From.on(s.Limits.Via))
		add("ip link set %s alias %q addrgenmode none up", s.Limits.Via, s.Limits.Alias)
		add("tc qdisc add dev %s clsact", s.Port)
		add("tc filter add dev %s ingress pref %d u32 match u32 0 0 action mirred egress redirect dev %s", s.Port, ShaperPreference, s.Limits.Via)
	}
	return strings.Join(words, " && ")
}

// ShaperPreference is where among a port's filters the one stands that hands everything on
// to be shaped: behind all that look at a frame.
const ShaperPreference = 0xc000

// Steered reports that what comes from the owner goes by Via already, whatever the rate.
func (s SetLimits) Steered() bool { return s.Had.From.Rate != 0 }

func (s Shape) on(dev string) string {
	if s.IsZero() {
		return fmt.Sprintf("tc qdisc del dev %s root", dev)
	}
	return fmt.Sprintf("tc qdisc replace dev %s root handle %x: tbf rate %dbit burst %db limit %d", dev, ShaperHandle, s.Rate*8, s.Burst, s.Queue)
}

// ShaperHandle is the number of every token bucket of ours, by which it is known: "PB".
const ShaperHandle = 0x5042

// limits brings a port to its limits before it comes up.
func (d *differ) limits(want, have Port) {
	if want.Limits.To == have.Limits.To && want.Limits.From == have.Limits.From {
		return
	}
	if want.Limits.Via == "" {
		want.Limits.Via, want.Limits.Alias = have.Limits.Via, have.Limits.Alias
	}
	d.add(SetLimits{Port: want.Name, Limits: want.Limits, Had: have.Limits, Group: want.Group})
}
