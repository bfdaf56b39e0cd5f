package audittest

import (
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
)

// Events generates valid events of the log with the origin.
func Events(origin string) *rapid.Generator[audit.Event] {
	name := rapid.StringMatching(`[a-z]{1,8}(\.[a-z]{1,8})?`)
	id := rapid.Map(rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`), identity.MustParseID)
	event := rapid.Map(rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`), func(s string) audit.EventID {
		e, _ := audit.ParseEventID(s)
		return e
	})
	at := rapid.Map(rapid.Int64Range(1, 250_000_000_000_000_000), func(us int64) time.Time { return time.UnixMicro(us).UTC() })
	digest := rapid.Map(rapid.SliceOfN(rapid.Byte(), 32, 32), func(b []byte) audit.Digest { return audit.Digest(b) })
	hop := rapid.Custom(func(t *rapid.T) audit.Hop {
		return audit.Hop{From: id.Draw(t, "from"), Delegation: id.Draw(t, "delegation")}
	})
	return rapid.Custom(func(t *rapid.T) audit.Event {
		e := audit.Event{ID: event.Draw(t, "ID"), Origin: origin, Kind: name.Draw(t, "kind"), Time: at.Draw(t, "time"),
			Outcome: rapid.SampledFrom([]audit.Outcome{audit.Success, audit.Denied, audit.Failure}).Draw(t, "outcome")}
		some := func() bool { return rapid.Bool().Draw(t, "some") }
		if some() {
			e.Actor = audit.Actor{ID: id.Draw(t, "actor"), Kind: identity.Kind(rapid.IntRange(1, 6).Draw(t, "actor kind")), Session: rapid.String().Draw(t, "session"),
				AAL: identity.AAL(rapid.IntRange(1, 3).Draw(t, "AAL")), AuthenticatedAt: at.Draw(t, "authenticated")}
			e.Actor.Chain = append(e.Actor.Chain, rapid.SliceOfN(hop, 0, 3).Draw(t, "chain")...)
		}
		if some() {
			e.Subject, e.Cause, e.Fields = id.Draw(t, "subject"), event.Draw(t, "cause"), rapid.MapOfN(rapid.String(), rapid.String(), 1, 3).Draw(t, "fields")
			e.Object = &audit.Object{Kind: audit.Kind(name.Draw(t, "kind")), ID: audit.ID(name.Draw(t, "ID")), Version: rapid.Uint64Range(1, 1<<53-1).Draw(t, "version"), Digest: digest.Draw(t, "digest")}
		}
		return e
	})
}
