# podman.sh PROGRAMS: a podman that has nothing yet, for root and for nobody, who gets a home and may make a network.
. "$(dirname "$0")/inside.sh"
mkdir -p /var/lib/containers /dev/net
mount -t tmpfs tmpfs /var/lib/containers
mount -t tmpfs tmpfs /dev/net
mknod -m 666 /dev/net/tun c 10 200
mkdir -p /run/user/0 /run/user/65534 /run/nobody
chown 65534:65534 /run/user/65534 /run/nobody
sed 's,^\(nobody:.*\):[^:]*:,\1:/run/nobody:,' /etc/passwd >/run/passwd
mount --bind /run/passwd /etc/passwd
: >/run/booted
sleep 600 &
wait $! # and takes leave of the orphans
