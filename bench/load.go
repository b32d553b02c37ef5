package main

import (
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// side is one of the two things that a row compares. It works for about so long
// and tells what it did.
type side func(ctx context.Context, length time.Duration) (sample, error)

// sample is what one side did in one round.
type sample struct {
	// rate is how much was done in a second.
	rate float64
	// slowest is the rate of the slowest of several processes.
	slowest float64
	// median and p99 are latencies of one call; 0 where calls are not timed.
	median, p99 time.Duration
	// bytes is what a record takes on disk; 0 where nobody looks.
	bytes float64
}

// byCallers has so many callers repeat a call, which does so many things at once.
// Each caller begins its last call before the time is up.
func byCallers(callers, things int, call func(context.Context) error) side {
	return func(ctx context.Context, length time.Duration) (sample, error) {
		took := make([][]time.Duration, callers)
		failed := make([]error, callers)
		var all sync.WaitGroup
		begin := time.Now()
		for i := range callers {
			all.Go(func() {
				for now := begin; now.Sub(begin) < length; {
					if failed[i] = call(ctx); failed[i] != nil {
						return
					}
					end := time.Now()
					took[i] = append(took[i], end.Sub(now))
					now = end
				}
			})
		}
		all.Wait()
		elapsed := time.Since(begin)
		if err := errors.Join(failed...); err != nil {
			return sample{}, err
		}
		every := slices.Concat(took...)
		slices.Sort(every)
		return sample{rate: float64(len(every)*things) / elapsed.Seconds(), median: quantile(every, 0.5), p99: quantile(every, 0.99)}, nil
	}
}

// mostCalls is how many calls a round in memory has at most, so that neither side
// goes on to larger ledgers than the other.
const mostCalls = 50_000

// inMemoryBy has so many callers make at most mostCalls calls in all, and times
// none of them by itself. What is called is made anew for each round.
func inMemoryBy(callers int, fresh func(context.Context) (func(context.Context) error, error)) side {
	const between = 100 // calls between two looks at the clock
	return func(ctx context.Context, length time.Duration) (sample, error) {
		call, err := fresh(ctx)
		if err != nil {
			return sample{}, err
		}
		runtime.GC() // what making it left
		failed := make([]error, callers)
		var all sync.WaitGroup
		var begun, done atomic.Int64
		begin := time.Now()
		for i := range callers {
			all.Go(func() {
				for time.Since(begin) < length && begun.Add(between) <= mostCalls {
					for range between {
						if failed[i] = call(ctx); failed[i] != nil {
							return
						}
					}
					done.Add(between)
				}
			})
		}
		all.Wait()
		elapsed := time.Since(begin)
		return sample{rate: float64(done.Load()) / elapsed.Seconds()}, errors.Join(failed...)
	}
}

// wholly times one run of something that does a number of things, whatever the
// length.
func wholly(run func(context.Context) (things int, err error)) side {
	return func(ctx context.Context, _ time.Duration) (sample, error) {
		begin := time.Now()
		things, err := run(ctx)
		return sample{rate: float64(things) / time.Since(begin).Seconds()}, err
	}
}

// quantile is the smallest of the sorted values that at least the share q of them
// does not exceed; 0 of none.
func quantile[T time.Duration | float64](sorted []T, q float64) T {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// median is the middle one of the values, or the mean of the middle two.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}
