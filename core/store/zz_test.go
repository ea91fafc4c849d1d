package store

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
)

func TestZZ(t *testing.T) {
	if os.Getenv("ZZ") == "" {
		t.Skip("x")
	}
	dirs := dirsIn(os.Getenv("ZZ"))
	for i := 0; i < 3; i++ {
		ts := []time.Time{time.Now()}
		fl := []int64{flt()}
		mark := func() { ts = append(ts, time.Now()); fl = append(fl, flt()) }
		s := New(benchConfig(dirs))
		var m0, m1 runtime.MemStats
		_ = m0
		unlock, err := s.lockTransaction(writeRun)
		mark()
		tx := &Tx{store: s, mode: writeRun, now: s.now()}
		if err = tx.open(); err != nil {
			t.Fatal(err)
		}
		mark()
		p := benchPort(70000 + os.Getpid()*10 + i)
		if _, err := tx.Switch("prod"); err != nil {
			t.Fatal(err)
		}
		mark()
		_, err = tx.LeaseMAC(p.ID)
		if err != nil {
			t.Fatal(err)
		}
		mark()
		_, err = tx.LeaseIP("prod", ranges("10.0.0.0/16"), p.ID)
		if err != nil {
			t.Fatal(err)
		}
		mark()
		if err := tx.PutPort(p); err != nil {
			t.Fatal(err)
		}
		mark()
		if err := tx.commit(); err != nil {
			t.Fatal(err)
		}
		mark()
		tx.close()
		mark()
		unlock()
		mark()
		_ = m1
		names := []string{"lock", "open", "switch", "mac", "ip", "port", "commit", "close", "unlock"}
		fmt.Print(i, " total ", ts[len(ts)-1].Sub(ts[0]).Microseconds(), ": ")
		for k, n := range names {
			fmt.Printf("%s %d(%d)  ", n, ts[k+1].Sub(ts[k]).Microseconds(), fl[k+1]-fl[k])
		}
		fmt.Println()
	}
}

func TestZZFill(t *testing.T) {
	if os.Getenv("ZZF") == "" {
		t.Skip("x")
	}
	benchFill(t, dirsIn(os.Getenv("ZZF")), 5000)
}

func flt() int64 {
	var u syscall.Rusage
	syscall.Getrusage(0, &u)
	return u.Minflt
}
