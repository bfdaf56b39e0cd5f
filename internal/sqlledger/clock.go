package sqlledger

import "time"

// maxJump is the most by which a database's clock may differ from what it should show now.
const maxJump = time.Minute

// A sample is what the database's clock showed, and when that was heard. The local time is only used for what passes from then on.
type sample struct{ database, local time.Time }

func (s *sample) now() time.Time { return s.database.Add(time.Since(s.local)) }

// saw takes over what the database's clock showed just now, in microseconds, unless it jumped.
func (p *postgres) saw(micros int64) {
	next := &sample{time.UnixMicro(micros).UTC(), time.Now()}
	last := p.clock.Load()
	if last != nil {
		if d := next.database.Sub(last.now()); d > maxJump || d < -maxJump {
			return
		}
	}
	p.clock.CompareAndSwap(last, next)
}

func (p *postgres) time() (time.Time, bool) {
	s := p.clock.Load()
	if s == nil {
		return time.Time{}, false
	}
	return s.now(), true
}
