#!/bin/sh
# After the files are there: the account, the directories, and, where systemd runs, the service as it was. A new
# gateway is not started: it has no configuration yet.
#
# dpkg says "configure VERSION" (the version before, if any), rpm 1 at the first installation and 2 at an upgrade.
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

# tmpfiles.d says the same for systems on which it runs, and after each boot.
install -d -m 0750 -o knockgw -g knockgw /etc/knockgw /var/log/knockgw
install -d -m 0700 -o knockgw -g knockgw /var/lib/knockgw
if [ -d /run ]; then
	install -d -m 0750 -o knockgw -g knockgw /run/knockgw
fi

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart knockgw.service || echo "knockgw: not restarted; see journalctl -u knockgw" >&2
fi
