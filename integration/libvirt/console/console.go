// Package console is how a test speaks with its virtual machines: a line of JSON for
// each request and each answer, on a serial line of the machine.
package console

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Verb is something that the machine can do. An error is told to the test.
type Verb func(args ...string) (string, error)

// message is a request, or an answer with the number of its request. Number 0 is the
// machine's first word.
type message struct {
	Number int      `json:"number"`
	Args   []string `json:"args,omitempty"`
	Out    string   `json:"out,omitempty"`
	Err    string   `json:"err,omitempty"`
}

// Serve is the machine's side: it says that it is there, and carries out requests,
// also several at a time, until the line ends.
func Serve(line io.ReadWriter, verbs map[string]Verb) error {
	var mu sync.Mutex
	say := func(m message) {
		text, err := json.Marshal(m)
		if err != nil {
			panic(err) // strings and a number
		}
		mu.Lock()
		defer mu.Unlock()
		_, _ = line.Write(append(text, '\n')) // who does not hear it says so
	}
	say(message{})
	requests := bufio.NewReader(line)
	for {
		text, err := requests.ReadBytes('\n')
		if err != nil {
			return err
		}
		var m message
		if err := json.Unmarshal(text, &m); err != nil || len(m.Args) == 0 {
			continue // half a line, at most
		}
		go func() {
			answer := message{Number: m.Number}
			verb, ok := verbs[m.Args[0]]
			if !ok {
				answer.Err = "no such verb: " + m.Args[0]
			} else if out, err := verb(m.Args[1:]...); err != nil {
				answer.Err = err.Error()
			} else {
				answer.Out = out
			}
			say(answer)
		}()
	}
}

// Console is the test's side. The hypervisor connects to it each time it starts the
// machine, and during a migration two of them are connected.
type Console struct {
	listener *net.UnixListener

	mu       sync.Mutex
	changed  *sync.Cond
	conns    []net.Conn
	boots    int // how often the machine has said its first word
	starts   int // how often a hypervisor has connected
	number   int
	answers  map[int]message
	finished bool
}

// Listen makes the socket that a hypervisor is to connect to.
func Listen(path string) (*Console, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	c := &Console{listener: l, answers: map[int]message{}}
	c.changed = sync.NewCond(&c.mu)
	go c.accept()
	return c, nil
}

func (c *Console) accept() {
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			c.change(func() { c.finished = true })
			return
		}
		c.change(func() { c.conns, c.starts = append(c.conns, conn), c.starts+1 })
		go c.read(conn)
	}
}

func (c *Console) change(what func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	what()
	c.changed.Broadcast()
}

func (c *Console) read(conn net.Conn) {
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			continue // half a line of a machine that was stopped
		}
		c.change(func() {
			if m.Number == 0 {
				c.boots++
			} else {
				c.answers[m.Number] = m
			}
		})
	}
	c.change(func() {
		for i := range c.conns {
			if c.conns[i] == conn {
				c.conns = append(c.conns[:i:i], c.conns[i+1:]...)
				break
			}
		}
	})
	_ = conn.Close() // the other end has
}

// wait waits until done, which is called with the lock, or the patience is over.
func (c *Console) wait(patience time.Duration, done func() bool) error {
	late := false
	timer := time.AfterFunc(patience, func() { c.change(func() { late = true }) })
	defer timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !done() {
		if late || c.finished {
			return os.ErrDeadlineExceeded
		}
		c.changed.Wait()
	}
	return nil
}

// Boots is how often the machine has come up so far.
func (c *Console) Boots() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.boots
}

// AwaitBoot waits until the machine has come up n times.
func (c *Console) AwaitBoot(n int, patience time.Duration) error {
	if err := c.wait(patience, func() bool { return c.boots >= n }); err != nil {
		return fmt.Errorf("the machine does not come up (boot %d): %w", n, err)
	}
	return nil
}

// AwaitEnd waits until no hypervisor runs the machine.
func (c *Console) AwaitEnd(patience time.Duration) error {
	if err := c.wait(patience, func() bool { return len(c.conns) == 0 }); err != nil {
		return fmt.Errorf("the machine does not end: %w", err)
	}
	return nil
}

// Do has the machine carry a verb out and returns what it says. The request goes to
// the hypervisor that connected last.
func (c *Console) Do(patience time.Duration, args ...string) (string, error) {
	c.mu.Lock()
	c.number++
	m := message{Number: c.number, Args: args}
	var conn net.Conn
	if n := len(c.conns); n > 0 {
		conn = c.conns[n-1]
	}
	c.mu.Unlock()
	if conn == nil {
		return "", fmt.Errorf("%v: the machine does not run", args)
	}
	text, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	if _, err := conn.Write(append(text, '\n')); err != nil {
		return "", fmt.Errorf("%v: %w", args, err)
	}
	if err := c.wait(patience, func() bool { _, ok := c.answers[m.Number]; return ok }); err != nil {
		return "", fmt.Errorf("%v: the machine does not answer: %w", args, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	answer := c.answers[m.Number]
	delete(c.answers, m.Number)
	if answer.Err != "" {
		return "", fmt.Errorf("%v: %w", args, errors.New(answer.Err))
	}
	return answer.Out, nil
}

// Close lets go of the socket.
func (c *Console) Close() error {
	err := c.listener.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close() // the machine goes on without
	}
	return err
}
