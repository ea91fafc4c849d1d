package wire

import (
	"errors"
	"syscall"
)

// ReadAll reads a descriptor to its end. It fails where that is further than most bytes.
func ReadAll(fd, most int) (all []byte, err error) {
	const chunk = 8 << 10
	for {
		if cap(all)-len(all) < chunk {
			all = append(make([]byte, 0, 2*cap(all)+chunk), all...)
		}
		n, err := retried(fd, all[len(all):cap(all)], syscall.Read)
		if n <= 0 || err != nil {
			return all, err
		}
		if all = all[:len(all)+n]; len(all) > most {
			return all, errors.New("there is no end of it")
		}
	}
}

// WriteAll writes all of b to a descriptor.
func WriteAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := retried(fd, b, syscall.Write)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// retried carries out a system call that may be interrupted, or whose file does not wait
// because the runtime has left it so.
func retried(fd int, b []byte, call func(int, []byte) (int, error)) (n int, err error) {
	for {
		n, err = call(fd, b)
		switch err { //nolint:errorlint // an errno, bare
		case syscall.EINTR:
		case syscall.EAGAIN:
			if err := syscall.SetNonblock(fd, false); err != nil {
				return 0, err
			}
		default:
			return n, err
		}
	}
}
