// Package rig has the tests against what users have: a real systemd, Docker engine
// and podman, each in namespaces and cgroups of its own, with nothing of the
// machine within reach. They take root, and Linux.
package rig
