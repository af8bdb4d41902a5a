# docker.sh PROGRAMS DOCKERD-FLAG...: a Docker engine where its command looks for it.
. "$(dirname "$0")/inside.sh"
shift
mkdir -p /run/data
for at in /var/lib/docker /var/lib/containerd; do if [ -d "$at" ]; then mount -t tmpfs tmpfs "$at"; fi; done
dockerd --data-root /run/data --storage-driver vfs --log-level error "$@" &
trap 'kill $!; wait $!; exit' TERM
wait $!
