package kernel

import "slices"

// fakeFault counts down to a failure or a death.
type fakeFault struct {
	failIn, dieIn int // steps from now, the next is 1; 0: never
	failure       error
	dead          bool
}

// strike is asked before each step is carried out.
func (ft *fakeFault) strike() error {
	if ft.dieIn > 0 {
		if ft.dieIn--; ft.dieIn == 0 {
			ft.dead = true
			return ErrDied
		}
	}
	if ft.failIn > 0 {
		if ft.failIn--; ft.failIn == 0 {
			return ft.failure
		}
	}
	return nil
}

// FailAt lets the n-th step from now fail with err before it is carried out; the
// next step is the first. It fails once: undoing and trying again succeed. An n
// of 0 takes an earlier FailAt back.
func (f *Fake) FailAt(n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault.failIn, f.fault.failure = n, err
}

// DieAt lets the Fake die before the n-th step from now: this and every later
// call returns ErrDied, as if the process had been killed, until Revive. The
// state stays. An n of 0 takes an earlier DieAt back.
func (f *Fake) DieAt(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault.dieIn = n
}

// Revive lets calls through again: the next process, which finds what the dead
// one left.
func (f *Fake) Revive() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fakeFault{}
}

// Steps is how many steps have been carried out since NewFake.
func (f *Fake) Steps() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.log)
}

// Log returns the steps carried out since NewFake, oldest first, in the words of
// plan.Step's String.
func (f *Fake) Log() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.log)
}
