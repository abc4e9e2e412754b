#!/bin/sh
# Runs before the files are removed: stops the gateway, and removes the blackhole routes and rules of the protected
# addresses. An upgrade does neither: the addresses stay silent, and the service is restarted afterwards.
#
# dpkg passes "remove" or "upgrade"; rpm passes 0 when the last version is removed.
set -eu

case "${1:-}" in
remove | 0) ;;
*) exit 0 ;;
esac

if [ -d /run/systemd/system ]; then
	systemctl disable --now knockgw.service || true
fi
# Independent of the current configuration, and also for the next boot.
knockgw down --all || echo "knockgw: blackhole routes may remain; see ip route show proto 107, /var/lib/knockgw-hold" >&2
rmdir /var/lib/knockgw-hold 2>/dev/null || true
