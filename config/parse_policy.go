package config

import "github.com/knockgw/knockgw/internal/strictyaml"

func (p *parser) parseLimits(s *strictyaml.Section) {
	l := &p.c.Limits
	*l = Limits{
		GrantsPerClient: DefaultGrantsPerClient,
		FlowsPerClient:  DefaultFlowsPerClient,
		GrantsPerSource: DefaultGrantsPerSource,
		FlowsPerSource:  DefaultFlowsPerSource,
		Flows:           DefaultFlows,
		Knocks:          DefaultKnocks,
	}

	s.Integer("grants_per_client", &l.GrantsPerClient, 1, maxShare)
	s.Integer("flows_per_client", &l.FlowsPerClient, 1, maxShare)
	s.Integer("grants_per_source", &l.GrantsPerSource, 1, maxShare)
	s.Integer("flows_per_source", &l.FlowsPerSource, 1, maxShare)
	s.Integer("flows", &l.Flows, 1, maxFlows)
	s.Integer("knocks", &l.Knocks, minKnocks, maxKnocks)

	for _, k := range []struct {
		key   string
		value int
	}{
		{"flows_per_client", l.FlowsPerClient},
		{"flows_per_source", l.FlowsPerSource},
	} {
		if s.Has(k.key) && k.value > l.Flows {
			s.Warn(s.At(k.key), s.Key(k.key), "has no effect: limits.flows, the total, is %d", l.Flows)
		}
	}
}

func (p *parser) parseBan(s *strictyaml.Section) {
	b := &p.c.Ban
	*b = Ban{After: DefaultBanAfter, Within: DefaultBanWithin, For: DefaultBanFor}
	s.Integer("after", &b.After, 0, maxBanAfter)
	s.Duration("within", &b.Within, minBanTime, maxBanWithin)
	s.Duration("for", &b.For, minBanTime, maxBanFor)
	for _, key := range []string{"within", "for"} {
		if b.After == 0 && s.Has(key) {
			s.Warn(s.At(key), s.Key(key), "has no effect: after is 0, so there are no bans")
		}
	}
}
