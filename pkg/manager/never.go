package manager

import (
	"path"
	"slices"
)

// neverStop are the units that killport does not stop: without them the system,
// or the user's session, is gone, or much more than a port.
var neverStop = slices.Concat(
	// systemd itself, what holds others together, and file systems
	[]string{
		"init.scope", "session-*.scope", "user@*", "user-runtime-dir@*", "systemd-*", "dbus*", "polkit*", "elogind*", "seatd*",
		"snapd*", "cloud-init*", "cloud-config*", "auditd*", "rsyslog*", "udisks2*", "dm-event*", "lvm2*", "mdmonitor*",
		"*.mount", "*.automount", "*.swap", "*.slice",
	},
	// logins and desktops
	[]string{
		"getty@*", "*-getty@*", "console-getty*", "autovt@*", "ssh.service", "ssh@*", "sshd*", "dropbear*", "xrdp*", "vncserver*",
		"x11vnc*", "teleport*", "amazon-ssm-agent*", "snap.amazon-ssm-agent.*", "gdm*", "lightdm*", "sddm*", "xdm*", "lxdm*", "ly.service",
		"ly@*", "greetd*", "display-manager*", "accounts-daemon*", "gnome-*", "org.gnome.*", "plasma*", "org.kde.*", "app-*", "sway*",
		"hypr*", "niri*", "uwsm*", "wayland-*", "xdg-*", "tmux*", "screen*", "zellij*", "ssh-agent*", "gpg-agent*",
	},
	// who may log in
	[]string{"sssd*", "nscd*", "nslcd*", "slapd*", "krb5*", "kadmin*", "winbind*", "ypbind*", "oddjobd*", "gssproxy*"},
	// the network
	[]string{
		"NetworkManager*", "ModemManager*", "networking*", "ifup@*", "netplan*", "netctl*", "connman*", "dhcpcd*", "dhclient*", "iwd*",
		"wpa_supplicant*", "dnsmasq*", "named*", "bind9*", "unbound*", "firewalld*", "ufw*", "nftables*", "iptables*", "ip6tables*",
		"netfilter-persistent*", "tailscaled*", "wg-quick@*", "openvpn*", "strongswan*", "ipsec*", "zerotier-one*", "netbird*", "nebula*",
		"cloudflared*", "openvswitch*", "ovs-*",
	},
	// disks that are elsewhere
	[]string{
		"rpcbind*", "rpc-statd*", "rpc-gssd*", "rpc-svcgssd*", "nfs-*", "autofs*", "iscsi*", "open-iscsi*", "multipathd*", "zfs-*", "glusterd*", "ceph*", "rbdmap*", "nbd*", "drbd*",
	},
	// what runs machines, containers and jobs, and what a machine is run by
	[]string{
		"docker.service", "docker-desktop*", "snap.docker.*", "cri-docker*", "containerd.service", "buildkit*", "podman.service", "crio.service",
		"kubelet*", "k3s*", "rke2*", "microk8s*", "snap.microk8s.*", "nomad*", "slurm*", "pacemaker*", "corosync*", "lxd*", "snap.lxd.*",
		"lxc*", "incus*", "libvirtd*", "virt*d.service", "pve*", "xen*", "qemu-*", "open-vm-tools*", "vmtoolsd*", "vboxadd*", "walinuxagent*",
		"waagent*", "google-guest-agent*", "hv-kvp*", "hv-vss*", "hv-fcopy*", "hypervkvpd*", "hypervvssd*",
	},
)

// hosts are units in which people and machines run whatever they like: such a
// unit is stopped for what its main process holds, and for nothing else.
var hosts = []string{
	"cron*", "anacron*", "atd*", "actions.runner.*", "gitlab-runner*", "jenkins*", "buildkite-*", "teamcity*", "woodpecker*",
	"drone-runner*", "concourse*", "code-server*", "openvscode*", "code-tunnel*", "jupyter*", "rstudio*", "cockpit*", "emacs*",
	"ttyd*", "konsole*", "kitty*", "alacritty*", "wezterm*", "supervisor*", "pm2-*", "runit*", "s6*", "coder*", "eternalterminal*",
}

// lastTargets are what a system goes to when it ends, or when nearly all of it does
// (systemd.special(7)).
var lastTargets = []string{
	"emergency.*", "rescue.*", "reboot.*", "soft-reboot.*", "poweroff.*", "halt.*", "kexec.*", "exit.*", "shutdown.*", "suspend*", "hibernate*",
	"hybrid-sleep.*", "sleep.*", "umount.*", "final.*", "systemd-*",
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, name)
		return ok
	})
}
