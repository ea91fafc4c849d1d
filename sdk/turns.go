package sdk

import (
	"context"
	"sync"
)

// turns lets those who come for one key in one after another.
type turns struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // closed when the key is free
}

// take waits for the key's turn; give ends it.
func (t *turns) take(ctx context.Context, key string) (give func(), err error) {
	for {
		t.mu.Lock()
		free, taken := t.busy[key]
		if !taken {
			if t.busy == nil {
				t.busy = map[string]chan struct{}{}
			}
			mine := make(chan struct{})
			t.busy[key] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.busy, key)
				t.mu.Unlock()
				close(mine)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
