package sqlledger

import "time"

// maxJump is the most by which a correction of what is known does not take the time back.
const maxJump = time.Minute

// A sample is what the database's clock showed, and when. The local time is only used for what passes from then on.
type sample struct{ database, local time.Time }

func (s *sample) now() time.Time { return s.database.Add(time.Since(s.local)) }

// saw hears what the database's clock showed at some time since asked, in microseconds. What is known is corrected by as much as it is surely
// wrong.
func (p *postgres) saw(micros int64, asked time.Time) {
	now := time.Now()
	least := time.UnixMicro(micros).UTC()
	most := least.Add(now.Sub(asked))
	last := p.clock.Load()
	next := &sample{least, now}
	if last != nil {
		known := last.database.Add(now.Sub(last.local))
		switch {
		case known.Before(least):
		case known.After(most):
			next.database = most
			if known.Sub(most) > maxJump {
				defer p.told.Store(0) // the clock was set back
			}
		default:
			return
		}
	}
	p.clock.CompareAndSwap(last, next)
}

// time does not go back by a correction, after which it may stand still for a moment, unless the clock itself was set back.
func (p *postgres) time() (time.Time, bool) {
	s := p.clock.Load()
	if s == nil {
		return time.Time{}, false
	}
	for now := s.now().UnixNano(); ; {
		told := p.told.Load()
		if now <= told {
			return time.Unix(0, told).UTC(), true
		}
		if p.told.CompareAndSwap(told, now) {
			return time.Unix(0, now).UTC(), true
		}
	}
}
