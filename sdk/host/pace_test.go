package host

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestBackOff(t *testing.T) {
	b := backOff{first: time.Second, most: 5 * time.Minute}
	now := time.Unix(1e9, 0)
	if b.wait(now) != 0 {
		t.Error("a plugin that never failed waits")
	}
	for i, want := range []time.Duration{0, time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Minute, 5 * time.Minute} {
		b.failed(now)
		if got := b.wait(now); got != want || b.open() != (i >= 4) {
			t.Errorf("after %d failures: %s (open %t), want %s", i+1, got, b.open(), want)
		}
	}
	if b.wait(now.Add(time.Hour)) != 0 {
		t.Error("it waits for ever")
	}
	if b.recovered(); b.wait(now) != 0 || b.open() || b.first != time.Second {
		t.Error("it did not recover")
	}
}

func TestBudget(t *testing.T) {
	b := budget{perSecond: 10, most: 2, left: 2}
	now := time.Unix(1e9, 0)
	got := ""
	for _, after := range []time.Duration{0, 0, 0, 50 * time.Millisecond, 50 * time.Millisecond, 0, time.Hour, 0, 0} {
		now = now.Add(after)
		got += fmt.Sprint(b.take(now), " ")
	}
	if want := "true true false false true false true true false "; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	b = budget{perSecond: 10, most: 10, left: 10}
	if b.owe(now, 10) != 0 || b.owe(now, 5) != 500*time.Millisecond || b.owe(now.Add(time.Second), 1) != 0 {
		t.Error("what is owed is not what comes in")
	}
}

func TestTrickle(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	trickle := newTrickle(r)
	defer trickle.Close() //nolint:errcheck // it was only read
	go func() {
		fmt.Fprint(w, strings.Repeat("z", 3*longestLine)+"\nshort\n") //nolint:errcheck // as below
		for i := range burstLines + 99 {
			fmt.Fprintf(w, "line %d\n", i) //nolint:errcheck // the reader would miss it
		}
		fmt.Fprint(w, "the end") //nolint:errcheck // as above
		_ = w.Close()
	}()
	var lines []string
	for scanner := bufio.NewScanner(trickle); scanner.Scan(); {
		lines = append(lines, scanner.Text())
	}
	if len(lines) < burstLines || len(lines) > burstLines+60 {
		t.Fatalf("%d lines", len(lines))
	}
	if len(lines[0]) > longestLine || !strings.HasSuffix(lines[0], "zz...") || lines[1] != "short" || lines[2] != "line 0" {
		t.Errorf("%.40q, %q, %q", lines[0], lines[1], lines[2])
	}
}
