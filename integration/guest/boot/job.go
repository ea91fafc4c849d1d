package boot

import "time"

// Kernel is a kernel that guests run.
type Kernel string

// The kernels.
const (
	// UML is Debian's user-mode-linux 6.1: boots in 2 s and runs Go code at full speed,
	// on one CPU; starting a program is slow. It has no nftables family netdev.
	UML Kernel = "uml"
	// QEMU is Debian's 6.12 under qemu's TCG: boots in 5 s, half as fast, and has NICs.
	QEMU Kernel = "qemu"
)

// Job is what a guest does.
type Job struct {
	Argv []string // the program, from the guest's root
	Env  []string // added to the guest's environment
	Dir  string   // where it runs, below Source as on the machine
	// Source is a directory that the guest has at the same path; what it writes there
	// is gone when it ends.
	Source string
	// Limit is after how long a guest that has not ended is killed.
	Limit time.Duration
	// NICs is how many igb NICs the guest has, n0 and so on; those of a pair, n0 and n1,
	// n2 and n3, are joined by a cable. For QEMU only.
	NICs int
	// Nested is for a guest that runs virtual machines with VFs of its NICs: it has two CPUs,
	// 2 GB of memory and an IOMMU for that, and all NICs are on one cable. For QEMU only.
	Nested bool
	// Console gives the job the terminal that this process has.
	Console bool
}

// order is what the guest's process 1 is told.
type order struct {
	Argv, Env     []string
	Dir           string
	Modules       []string
	NICs          int
	Console       string
	Rows, Columns uint16
}

// piecesDir is where a guest has the pieces that this machine has, to read.
const piecesDir = "/pieces"

// Names of files in the directory that a guest shares with the process that booted it.
const (
	orderFile   = "order"   // what to do, in JSON
	logFile     = "log"     // what the program prints
	statusFile  = "status"  // its exit status, when it has ended
	consoleFile = "console" // what the kernel and process 1 say
)
