package config

func (p *parser) parseLimits(s *section) {
	l := &p.c.Limits
	*l = Limits{
		GrantsPerClient: DefaultGrantsPerClient,
		FlowsPerClient:  DefaultFlowsPerClient,
		GrantsPerSource: DefaultGrantsPerSource,
		FlowsPerSource:  DefaultFlowsPerSource,
		Flows:           DefaultFlows,
		Knocks:          DefaultKnocks,
	}
	s.integer("grants_per_client", &l.GrantsPerClient, 1, maxShare)
	s.integer("flows_per_client", &l.FlowsPerClient, 1, maxShare)
	s.integer("grants_per_source", &l.GrantsPerSource, 1, maxShare)
	s.integer("flows_per_source", &l.FlowsPerSource, 1, maxShare)
	s.integer("flows", &l.Flows, 1, maxFlows)
	s.integer("knocks", &l.Knocks, minKnocks, maxKnocks)
	for _, k := range []struct {
		key  string
		most int
	}{
		{"flows_per_client", l.FlowsPerClient},
		{"flows_per_source", l.FlowsPerSource},
	} {
		if s.has(k.key) && k.most > l.Flows {
			s.warn(s.at(k.key), s.key(k.key), "has no effect: limits.flows, which is for all together, is %d", l.Flows)
		}
	}
}

func (p *parser) parseBan(s *section) {
	b := &p.c.Ban
	*b = Ban{After: DefaultBanAfter, Within: DefaultBanWithin, For: DefaultBanFor}
	s.integer("after", &b.After, 0, maxBanAfter)
	s.duration("within", &b.Within, minBanTime, maxBanWithin)
	s.duration("for", &b.For, minBanTime, maxBanFor)
	for _, key := range []string{"within", "for"} {
		if b.After == 0 && s.has(key) {
			s.warn(s.at(key), s.key(key), "has no effect: after is 0, so nobody is banned")
		}
	}
}
