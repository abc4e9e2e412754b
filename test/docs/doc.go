// Package docs holds the manual to the repository: that what a page refers to,
// a page, a heading, a file, a test, is there. What programs can tell of
// themselves is compared beside them: commands and flags in cmd/knockgw,
// metrics in gateway, keys in config.
package docs
