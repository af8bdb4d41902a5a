# systemd.sh PROGRAMS: boots systemd with the units in /run/rig/units, and nothing else.
. "$(dirname "$0")/inside.sh"
mount -t tmpfs tmpfs /etc/systemd/system
cp -r /run/rig/units/. /etc/systemd/system
if command -v podman >/dev/null; then
	mkdir -p /var/lib/containers
	mount -t tmpfs tmpfs /var/lib/containers
fi
mkdir -p /run/user/0 /run/user/65534
chown 65534:65534 /run/user/65534
export container=rig
exec /lib/systemd/systemd --system --log-target=console --log-level=warning --unit=rig.target
