#!/bin/sh
# Runs after the files are installed: creates the account and the directories, and restarts the service if it is running.
# A new gateway is not started, since it has no configuration yet.
#
# dpkg passes "configure VERSION" (the previous version, if any); rpm passes 1 for an installation and 2 for an upgrade.
set -eu

case "${1:-}" in
configure | 1 | 2) ;;
*) exit 0 ;;
esac

if command -v systemd-sysusers >/dev/null 2>&1; then
	systemd-sysusers knockgw.conf
elif ! getent passwd knockgw >/dev/null 2>&1; then
	useradd --system --user-group --home-dir /var/lib/knockgw --no-create-home --shell /usr/sbin/nologin knockgw
fi

# As in tmpfiles.d, which also runs at each boot, for systems without it.
install -d -m 0750 -o knockgw -g knockgw /etc/knockgw /var/log/knockgw
install -d -m 0700 -o knockgw -g knockgw /var/lib/knockgw
if [ -d /run ]; then
	install -d -m 0750 -o knockgw -g knockgw /run/knockgw
fi

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart knockgw.service || echo "knockgw: not restarted; see journalctl -u knockgw" >&2
fi
