package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// event is what test2json prints, as far as it matters here.
type event struct {
	Action, Package string
	Test, Output    string `json:",omitempty"`
}

// ending copies the events of a package and knows whether it has ended: test2json does
// not say so of one that died.
type ending struct {
	pkg   string
	out   io.Writer
	ended bool
}

func (e *ending) copy(from io.Reader) error {
	in := bufio.NewScanner(from)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var seen event
		if err := json.Unmarshal(in.Bytes(), &seen); err != nil {
			return fmt.Errorf("test2json said %q: %w", in.Text(), err)
		}
		e.ended = e.ended || seen.Test == "" && (seen.Action == "pass" || seen.Action == "fail" || seen.Action == "skip")
		if _, err := e.out.Write(append(in.Bytes(), '\n')); err != nil {
			return err
		}
	}
	return in.Err()
}

// fail ends the package unless it has ended, with what went wrong.
func (e *ending) fail(why error) error {
	if e.ended {
		return nil
	}
	events := []event{{Action: "fail", Package: e.pkg}}
	if why != nil {
		events = append([]event{{Action: "output", Package: e.pkg, Output: why.Error() + "\n"}}, events...)
	}
	for _, v := range events {
		line, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if _, err := e.out.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// lines is a writer that several share: what they write are whole lines.
type lines struct {
	mu sync.Mutex
	to io.Writer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(p)
}
