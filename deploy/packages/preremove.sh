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
if [ -e /etc/knockgw/knockgw.yaml ]; then
	knockgw down || echo "knockgw: blackhole routes may be left; see ip route show proto 107" >&2
fi
