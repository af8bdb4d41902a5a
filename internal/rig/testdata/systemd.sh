# systemd.sh PROGRAMS: boots systemd with the units in /run/rig/units, and nothing else.
. "$(dirname "$0")/inside.sh"
mount -t tmpfs tmpfs /etc/systemd/system
cp -r /run/rig/units/. /etc/systemd/system
mkdir -p /run/user/0
export container=rig
exec /lib/systemd/systemd --system --log-target=console --log-level=warning --unit=rig.target
