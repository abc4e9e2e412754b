#!/bin/sh
# Before the files go: the gateway stops, and the protected addresses are ordinary again. An upgrade leaves both
# alone: the addresses stay silent, and the service is restarted afterwards.
#
# dpkg says "remove" or "upgrade", rpm 0 when the last version goes.
set -eu

case "${1:-}" in
remove | 0) ;;
*) exit 0 ;;
esac

if [ -d /run/systemd/system ]; then
	systemctl disable --now knockgw.service || true
fi
# Whatever the configuration says by now, and after the next boot, too.
knockgw down --all || echo "knockgw: blackhole routes may be left; see ip route show proto 107, /var/lib/knockgw-hold" >&2
rmdir /var/lib/knockgw-hold 2>/dev/null || true
