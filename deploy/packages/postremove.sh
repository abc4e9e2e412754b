#!/bin/sh
# After the files are gone. What the gateway remembers goes when the package is purged (dpkg); the configuration and the
# clients' secrets are the operator's, and stay. So does the account, whose number files may have.
set -eu

if [ "${1:-}" = purge ]; then
	rm -rf /var/lib/knockgw /var/lib/knockgw-hold /var/log/knockgw
	rmdir /etc/knockgw 2>/dev/null || true
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
