package store

import (
	"context"
	"sync"
	"time"
)

// timeout is the context of a batch: that of context.WithTimeout, whose timer is
// only started when somebody waits for it. A store in memory never does.
type timeout struct {
	parent context.Context //nolint:containedctx // what a context is made from
	end    time.Time

	mu     sync.Mutex
	timed  context.Context //nolint:containedctx // nil until it is needed
	cancel context.CancelFunc
}

// over is a context that has ended.
var over = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// release ends the context and frees what it took.
func (t *timeout) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timed == nil {
		t.timed = over
		return
	}
	t.cancel()
}

func (t *timeout) context() context.Context {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timed == nil {
		t.timed, t.cancel = context.WithDeadline(t.parent, t.end)
	}
	return t.timed
}

func (t *timeout) Deadline() (time.Time, bool) { return t.context().Deadline() }
func (t *timeout) Done() <-chan struct{}       { return t.context().Done() }
func (t *timeout) Value(key any) any           { return t.context().Value(key) }

func (t *timeout) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.timed != nil:
		return t.timed.Err()
	case t.parent.Err() != nil:
		return t.parent.Err()
	case !time.Now().Before(t.end):
		return context.DeadlineExceeded
	}
	return nil
}
