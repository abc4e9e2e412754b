#!/bin/sh
# Runs after the files are removed. A purge (dpkg) deletes the gateway's state. The configuration and the clients' secrets
# belong to the operator and are kept, as is the account, since files may have its number.
set -eu

if [ "${1:-}" = purge ]; then
	rm -rf /var/lib/knockgw /var/lib/knockgw-hold /var/log/knockgw
	rmdir /etc/knockgw 2>/dev/null || true
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
