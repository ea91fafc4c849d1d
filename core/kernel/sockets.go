package kernel

// sockets are those of one protocol in the host's namespace, kept between calls. Every
// caller has one of its own: a shared one would serialise them.
type sockets struct {
	dial func() (*rtnl, error)
	idle chan *rtnl
}

// maxIdle bounds the sockets that are kept between calls.
const maxIdle = 48

func newSockets(dial func() (*rtnl, error)) sockets {
	return sockets{dial: dial, idle: make(chan *rtnl, maxIdle)}
}

// with runs fn with a socket.
func (s sockets) with(fn func(*rtnl) error) error {
	c, err := s.take()
	if err != nil {
		return err
	}
	defer s.give(c)
	return fn(c)
}

func (s sockets) take() (*rtnl, error) {
	select {
	case c := <-s.idle:
		return c, nil
	default:
		return s.dial()
	}
}

// give keeps a socket for the next one. Of one whose talk has broken off nobody knows what
// is still to come.
func (s sockets) give(c *rtnl) {
	if c.broken {
		c.close()
		return
	}
	select {
	case s.idle <- c:
	default:
		c.close()
	}
}

func (s sockets) close() {
	for len(s.idle) > 0 {
		(<-s.idle).close()
	}
}
