package admission

// A Bound is how many there may be of something, where nobody can configure it.
type Bound struct {
	Of   string // fit for a metric label
	Most int
}

// bounds are the tables whose size is ours, besides Limits.
var bounds = [...]Bound{
	{"handshakes_per_grant", ReservationsPerGrant},
	{"known_sources", maxSeen},
	{"offending_sources", maxOffences},
	{"udp_sequences", maxUDPSequences},
	{"udp_sequences_per_source", sequencesPerSource},
	{"syn_sequences", maxSYNSequences},
	{"syn_sequences_per_client", synSources},
	{"syn_knock_owners", maxOwners},
}
