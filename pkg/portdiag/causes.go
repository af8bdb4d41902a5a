package portdiag

import (
	"fmt"
	"io"
	"strings"
)

// About is what there is to say about a cause, whatever the port.
type About struct {
	Cause Cause
	Looks string // what it looks like
	Why   string // why it happens
	Helps string
}

// Causes is the list of all causes.
var Causes = []About{
	{
		CauseListener, "A process listens on the port.", "It is a server, or was one: an old run that was not ended, another project, a debugger.",
		"`killport PORT` ends it and proves that the port is free.",
	},
	{
		CauseProtected, "A process listens that killport does not end.",
		"It is the system's, or this program's own ancestor (shell, terminal, editor), or it serves many others.",
		"`killport --override PORT` ends ancestors, and what serves many. For the others there is no command: stop them by their own means.",
	},
	{
		CauseHidden, "A socket has the port, and the process that has the socket is not visible.",
		"It belongs to another user, or `/proc` is mounted so that it hides others; or we are in a PID namespace of our own (a container, a sandbox), and it is outside; or processes are born faster than they can be looked at.",
		"Look again as root: `sudo portdiag PORT`. Who is root already lacks CAP_SYS_PTRACE, is in a user namespace, or is kept from that process all the same. From inside of a PID namespace there is no command: look from outside.",
	},
	{
		CauseGhost, "A socket listens that no process has open; on Windows, one of a process that has ended.",
		"Linux: it is in flight in a Unix socket (SCM_RIGHTS), registered with an io_uring, of a process that takes long to exit; or it is the kernel's own, for NFS or iSCSI. " +
			"Windows: the process that bound it has ended, and a child has inherited its handle; the table goes on naming the one that ended.",
		"Linux: end the candidate that is named: `kill PID`. If it is not one alone, have the kernel close the socket: `sudo killport --close-ghosts PORT`. " +
			"That is for TCP, and for a socket that listens; and not from inside a PID namespace, where what nobody has may be a server's that runs well outside of it: there it is `hidden`. " +
			"Windows: end the heirs, which are named: `killport --heirs PORT`. If none is, look as administrator.",
	},
	{
		CauseContainer, "docker-proxy, or the engine itself, listens; or a process of a container in the host's network does.",
		"A container publishes the port. Ending the proxy would not stop it, and a restart policy would start it again.",
		"Stop the container: `docker stop NAME`. `killport PORT` does that. If no engine can name it, `killport --override PORT` ends the program that listens for it, and what else that does.",
	},
	{
		CauseUnit, "A process listens that belongs to a service of systemd.",
		"The service was started at boot or by hand, and `Restart=` starts it again when it is ended.",
		"`systemctl stop UNIT`, and `systemctl disable UNIT` to keep it from coming back at boot. `killport PORT` stops it, unless others that need it would be stopped too: then it names them all.",
	},
	{
		CauseSocketUnit, "PID 1, or a user's systemd, listens.", "A socket unit: systemd listens, and starts the service at the first connection.",
		"`systemctl stop UNIT.socket`; to stop only the service is not enough. `killport PORT` stops both.",
	},
	{
		CauseSupervisor, "The listening process has a supervisor above it: nodemon, pm2, supervisord, a reloader, npm.",
		"It was started by a tool that watches it, and that may start it again.",
		"Stop it through the supervisor, whose command is named; ending the server alone may not last.",
	},
	{
		CauseSSHForward, "ssh, or a session of sshd, listens.", "A port is forwarded: `ssh -L` or `-D` here, `ssh -R` from the other side.",
		"Close that ssh session, or end its process: `killport PORT`. It takes the whole session along.",
	},
	{
		CauseKernel, "A socket listens that no process has open, and the kernel is known to use it.",
		"NFS and ksmbd listen inside of the kernel, and so does an MPTCP endpoint with a port; VXLAN, Geneve, bareudp and WireGuard tunnels have UDP ports there.",
		"Stop the service: `sudo systemctl stop nfs-server.service`; delete the endpoint, `sudo ip mptcp endpoint delete id 1`, or the tunnel, `sudo ip link delete dev vxlan0`. Tunnels of one kind may share a port: all of them are named.",
	},
	{
		CauseBound, "Nobody listens, and bind says EADDRINUSE (Windows: WSAEADDRINUSE), unless both set SO_REUSEADDR.",
		"A process has bound the port and does not listen, or not yet. Linux shows that from 6.8 on.",
		"`killport PORT` ends it, as it ends what listens. On Windows: `taskkill -F -PID PID`.",
	},
	{
		CauseConnection, "Nobody listens, and bind says EADDRINUSE (Windows: WSAEADDRINUSE).",
		"A connection has the port as its local one: a client that got it from the ephemeral range, or what is left of a server.",
		"End the processes that are named: `kill PID`; on Windows `taskkill -F -PID PID`. If a container or a service has them, stop that. What nobody has any more ends by itself. killport ends no connection. Choose a port outside of `net.ipv4.ip_local_port_range`.",
	},
	{
		CauseEphemeral, "A connection or a bound socket has the port, and the port is one of those that the kernel gives to clients.",
		"The port is in `net.ipv4.ip_local_port_range`: any outgoing connection may get it.",
		"Keep it for your server: `sudo sysctl net.ipv4.ip_local_reserved_ports=LIST`, with those that are reserved already.",
	},
	{
		CauseReserved, "The port is in `net.ipv4.ip_local_reserved_ports`.", "Somebody keeps it for a server: the kernel does not give it to clients.",
		"Nothing is in the way: a server that names the port gets it. To give it back to clients, set the list without it: `sudo sysctl net.ipv4.ip_local_reserved_ports=LIST`.",
	},
	{
		CauseTimeWait, "Connections on the port have ended less than a minute ago.",
		"The kernel keeps their addresses in TIME_WAIT, so that late segments reach nobody else.",
		"Nothing, if the server sets SO_REUSEADDR and the one before it did so too; else wait: `sleep SECONDS`, as many as are named.",
	},
	{
		CausePrivileged, "bind says EACCES.", "Ports below `net.ipv4.ip_unprivileged_port_start` take a privilege.",
		"Choose a higher port, or lower the start: `sudo sysctl net.ipv4.ip_unprivileged_port_start=PORT`.",
	},
	{
		CauseAbsent, "bind says EADDRNOTAVAIL.",
		"No interface has the address that was asked about: it is another host's, or of a network that is down, or the system is still checking that nobody else has it (IPv6).",
		"There is no command: listen on an address of this host, which `ip address` lists (`ipconfig` on Windows), or on all of them.",
	},
	{
		CauseDNAT, "The port can be had, and connections to it go elsewhere; or it answers, and nobody listens.",
		"A rule of the packet filter (iptables, nftables) redirects the port before any socket is asked.",
		"Remove the rule: `sudo iptables -t nat -D RULE`, or `sudo nft delete rule FAMILY TABLE CHAIN handle N`. " +
			"If it belongs to a program (an engine with its userland proxy off, kube-proxy, CNI), there is no command: stop what made it.",
	},
	{
		CauseNamespace, "The port is free here, and a program says that it listens on it.",
		"It does so in another network namespace: in a container, a sandbox, a VPN.",
		"Nothing is in the way here. To end it there: `sudo nsenter --target PID --net killport PORT`, or stop its container.",
	},
	{
		CauseService, "Windows: a process listens that is a service, or svchost with several.",
		"The service was started at boot or by hand, and the service control manager may start it again.",
		"`sc.exe stop NAME`. `killport PORT` stops a service that has its process for itself.",
	},
	{
		CauseRelay, "Windows: `wslrelay.exe`, or a program of Docker Desktop, listens.", "A program inside WSL, or a container, has the port.",
		"End it where it runs: `wsl --exec ss -ltnp` or `docker ps` names it. `killport --override PORT` ends the helper, and with it all that it does for others.",
	},
	{
		CauseDenied, "Windows: access to the process is denied.", "It belongs to another user or to the system, or it protects itself.",
		"Open the terminal with *Run as administrator* and try again. What is protected denies that too.",
	},
	{
		CauseForward, "Windows: `svchost.exe` with iphlpsvc listens, or nobody does.", "A rule of `netsh interface portproxy` passes the port on.",
		"Delete the rule: the command is named.",
	},
	{
		CauseHTTP, "Windows: PID 4 listens.", "http.sys, a driver, listens on behalf of programs that have registered URLs with it: IIS, WinRM, many others.",
		"End such a program; PID 4 is the kernel. See `http_servicestate`.",
	},
	{
		CauseHTTPQueue, "Windows: PID 4 listens, and a program serves URLs of this port.", "It has registered them with http.sys.",
		"End that program, or stop its service.",
	},
	{
		CauseExcluded, "Windows: nobody listens, and bind says WSAEACCES (10013).", "The port is in a range that is reserved: for Hyper-V, WSL, Docker as a rule, or by somebody.",
		"`net stop winnat`, start your server, `net start winnat`; or delete the range, if somebody made it.",
	},
}

// WriteCauses writes the list, in Markdown.
func WriteCauses(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# Causes\n\nWhy a port can or cannot be had: the causes that `portdiag` names. `portdiag --causes` prints this page.\n")
	for _, a := range Causes {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n* Why: %s\n* What helps: %s\n", a.Cause, a.Looks, a.Why, a.Helps)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
