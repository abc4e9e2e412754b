// Package observe watches a running gateway and reports what happens in it:
// metrics, the audit, the log, traces and captures, readiness, and the status
// page.
//
//	datapath --Knock, Auth, Flow, Ban, Packet--> Observer --> Metrics
//	                                                      --> LastSeen
//	                                                      --> Health
//	                                                      --> Sessions: traces, captures
//	                                                      --> Audit
//	                                                      --> AccessLog
//
// An event sink has a file of its own. So have the monitors, which examine the
// host while the gateway runs: RouteMonitor and BypassMonitor. Nothing here
// decides about a packet, and nothing here makes one wait.
package observe
