package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// listen hears that there is something new. Nothing depends on it but how soon.
func (f *Fleet) listen(ctx context.Context) {
	wait := redialMin
	for ctx.Err() == nil {
		s := f.o.Client.Subscribe(ctx) // to nothing yet: it does not dial
		stop := context.AfterFunc(ctx, func() { _ = s.Close() })
		if f.follow(ctx, s) {
			wait = redialMin
		}
		f.subscribed(false)
		stop()
		_ = s.Close()
		pause(ctx, wait)
		wait = min(2*wait, redialMax)
	}
}

func (f *Fleet) subscribed(yes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.link.subscribed = yes
}

// follow hears messages until the connection fails or is silent when it is
// asked. heard says that it worked for a while.
func (f *Fleet) follow(ctx context.Context, s *redis.PubSub) (heard bool) {
	defer func() {
		if r := recover(); r != nil { // the client was written for servers that mean well
			f.nonsense(1, "an answer to a subscription that made the client panic")
		}
	}()
	if f.within(ctx, func(ctx context.Context) error { return s.Subscribe(ctx, f.keys.channel) }) != nil {
		return false
	}
	for silent := false; ; {
		message, err := s.ReceiveTimeout(ctx, f.o.Every)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			if silent || f.within(ctx, func(ctx context.Context) error { return s.Ping(ctx) }) != nil {
				return heard
			}
			silent = true
			continue
		}
		if err != nil {
			return heard
		}
		silent = false
		switch m := message.(type) {
		case *redis.Subscription:
			heard = true
			f.subscribed(true)
			f.poke() // what was said before
		case *redis.Message:
			f.hear(m.Payload)
		}
	}
}

func (f *Fleet) within(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, f.o.Timeout)
	defer cancel()
	return do(ctx)
}

// hear takes a message for what it is: a hint to read. It is "GENERATION CHANGE".
func (f *Fleet) hear(message string) {
	gen, count, ok := strings.Cut(message, " ")
	seq, err := strconv.ParseInt(count, 10, 64)
	if !ok || err != nil || seq <= 0 || gen == "" || len(gen) > 64 {
		f.nonsense(1, fmt.Sprintf("a message of %d bytes", len(message)))
		return
	}
	f.mu.Lock()
	known := gen == f.head.gen && seq <= f.head.seq
	f.mu.Unlock()
	if !known {
		f.poke()
	}
}
