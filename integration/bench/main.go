// Bench measures Patchbay's CNI plugin beside the reference plugin bridge with
// host-local, and beside the floor: the same kernel work done through netlink in
// one resident process. All contenders take turns in one run, each on a host of
// its own; the ratios tell more than the milliseconds. Run it with `make bench`.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/patchbay-net/patchbay/integration/host"
)

// options are the flags.
type options struct {
	n, rounds, ports, conc, crowd, stampede, stale int
	out                                            string
}

func main() {
	var o options
	flag.IntVar(&o.n, "n", 40, "containers per contender and round")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds")
	flag.IntVar(&o.ports, "ports", 1000, "ports already on each switch in the second part; 0 leaves it out")
	flag.IntVar(&o.crowd, "crowd", 0, "containers, each with a namespace, on one switch of ours in the third part, as 5000; 0 leaves it out")
	flag.IntVar(&o.stampede, "stampede", 100, "containers that are deleted at the same moment; 0 leaves that part out")
	flag.IntVar(&o.stale, "stale", 1000, "attachments that GC collects; 0 leaves that part out")
	flag.IntVar(&o.conc, "conc", 8, "ADDs at a time in the concurrent part")
	flag.StringVar(&o.out, "o", "docs/performance.md", "write the tables into this `file`, between its markers; empty: only print them")
	flag.Parse()
	switch {
	case os.Getuid() != 0:
		fmt.Fprintln(os.Stderr, "bench: network namespaces need root; run `sudo make bench`")
		os.Exit(1)
	case o.n < 1 || o.rounds < 1 || o.conc < 1 || o.ports < 0 || o.ports > 1000 || o.crowd < 0 || o.stampede < 0 || o.stale < 0:
		fmt.Fprintln(os.Stderr, "bench: -n, -rounds and -conc are at least 1, -ports at most 1000 (a bridge takes 1023)")
		os.Exit(1)
	}
	os.Exit(host.Main(func() int {
		if err := run(o); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
		return 0
	}))
}

func run(o options) (err error) {
	start := time.Now()
	dir, err := os.MkdirTemp("", "patchbay-bench-")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(dir))
		tell("done after %.0f s; the kernel takes the rest away as the program ends", time.Since(start).Seconds())
	}()
	cs, err := contenders(dir, o)
	defer func() {
		for _, c := range cs {
			tell("the host of %s goes", c.name)
			err = errors.Join(err, c.close())
		}
	}()
	if err != nil {
		return err
	}
	levels := []int{0}
	if o.ports > 0 {
		levels = append(levels, o.ports)
	}
	if err := stampede(cs, o); err != nil {
		return err
	}
	collected, err := collect(cs, o)
	if err != nil {
		return err
	}
	for _, level := range levels {
		if err := populate(cs, level); err != nil {
			return err
		}
		for round := range o.rounds {
			tell("%d ports, round %d of %d", level, round+1, o.rounds)
			if err := sequential(cs, level); err != nil {
				return err
			}
			for _, c := range cs {
				if err := c.concurrent(level, o.conc); err != nil {
					return err
				}
			}
		}
	}
	many, err := gather(cs, o)
	if err != nil {
		return err
	}
	tell("how the plugin starts")
	s, err := measureStart(find(cs, ours).host.Root)
	if err != nil {
		return err
	}
	s.many, s.collected = many, collected
	tell("patchbayd at rest, half a minute")
	s.still, err = measureRest(find(cs, resident).daemon, levels[len(levels)-1])
	if err != nil {
		return err
	}
	text := report(cs, levels, o, s) + fmt.Sprintf("\n%s, %.0f s in all, by `make bench` (`bin/bench %s`).\n",
		time.Now().UTC().Format("2006-01-02"), time.Since(start).Seconds(), strings.Join(flags(), " "))
	fmt.Print(text)
	return write(o.out, text)
}

// tell says what comes next: some of it takes minutes.
func tell(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format(time.TimeOnly)+" bench: "+format+"\n", args...)
}

// flags are the options in force, as they would be written.
func flags() []string {
	var words []string
	flag.VisitAll(func(f *flag.Flag) {
		if f.Name != "o" {
			words = append(words, "-"+f.Name+"="+f.Value.String())
		}
	})
	return words
}
