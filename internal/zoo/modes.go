package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

type mode struct {
	name  string
	flags string // those that it knows beside everyFlag
	about string
	play  func(*call) error
}

const everyFlag = "life leash port-file"

// modes is a function, since the modes that start others look them up.
func modes() []mode {
	return []mode{
		{"serve", "mptcp http v6only same-port reuseport warmup child", "listens on every ADDR; 127.0.0.1:8000-8009 are ten", serve},
		{"udp", "", "has UDP sockets bound to every ADDR", udp},
		{"both", "", "has TCP and UDP on one port number", both},
		{"ignore-term", "mptcp http child", "serves, and ignores SIGTERM, SIGINT and SIGHUP", ignoreTerm},
		{"block-term", "", "listens with these three in its signal mask (SigBlk); where that cannot be, ignores them", blockTerm},
		{"slow", "for mark mptcp http", "on SIGTERM cleans up for 1s, still listening, marks \"clean\", exits", slow},
		{"drain", "for mark mptcp http", "on SIGTERM closes the listener, serves on for 2s, marks \"drained\", exits", drain},
		{"stopped", "mark", "stops itself once ready; on SIGTERM marks \"handled\", exits", stopped},
		{"reuseport", "n parent-holds", "3 processes with own SO_REUSEPORT sockets on one port", reuseport},
		{"prefork", "n stubborn orphan-on-kill", "a master listens, 3 workers inherit the socket and are replaced when they die", prefork},
		{"orphan", "", "a child inherits the socket, its parent prints the line and exits 0", orphan},
		{"heirs", "stay", "one child inherits the socket, another (peer_pid) a connection that it accepted, their parent exits", heirs},
		{"respawn", "warmup drains for", "a supervisor, which holds nothing, starts its server again on the same port when it dies", respawn},
		{"client", "local-port udp", "has an outgoing connection to ADDR, or to a peer of its own", client},
		{"timewait", "stay exclusive", "leaves the port in TIME_WAIT and exits 0", timeWait},
		{"bound", "", "has bound the port without SO_REUSEADDR, and does not listen", bound},
		{"connected", "", "has no listener any more, but a connection that it accepted without SO_REUSEADDR", connected},
		{"two", "parent-holds", "one port on 127.0.0.1 and on 127.0.0.2, by two processes", two},
		{"thread-fds", "", "a thread with an fd table of its own has the listener, the leader has not", threadFDs},
		{"leader-gone", "drains for mark", "the thread group leader has exited (state Z), another thread goes on listening", leaderGone},
		{"clone-files", "", "two processes share one fd table", cloneFiles},
		{"vfork", "", "a parent suspended in vfork (state D) and its child both have the listener", vfork},
		{"scm", "cycle outlive keep mptcp reuseport", "a listener in flight over a unix socket, nobody has it open", scm},
		{"iouring", "accept", "a listener that only an io_uring has, as a fixed file", ioUring},
		{"hostile-name", "comm argv argv-bytes exe", "serves under a comm, an argv, an exe of your choice (each Go-escaped)", hostileName},
		{"traced", "exit-stop", "serves, and is stopped by a tracer that does nothing more", traced},
		{"hung", "thread", "in state D, and not to be killed, for a FUSE server that never answers", hung},
		{"lingering", "for", "takes 1s to close its files when it ends, which no signal makes shorter", lingering},
		{"memory", "bytes", "serves, having touched 1 GiB, which takes time to tear down", memory},
		{"many", "n idle-fds", "1000 listeners in one process, each on a port of its own", many},
		{"crowd", "n holds unreaped stubborn", "300 processes that do nothing but hold, see --holds, of a parent that reaps them", crowd},
		{"storm", "for stubborn", "a process hands its listener on to a child every 5ms, and ends", storm},
		{"threads", "n", "serves, and has 500 threads", threads},
		{"denied", "", "serves, and has taken all rights on itself from everybody", denied},
		{"detached", "", "serves, on no console", detached},
		{"window", "mark", "serves, and has a window; marks \"closed\" and exits when that is closed", window},
		{"service", "mark for stopping", "a service called killport-zoo-PARENT serves; marks \"stopped\" and exits when it is stopped", service},
		{"run-holding", "", "ADDR -- CMD ARG...: listens on ADDR, runs CMD ({port} in ARG is the port), exits as it does", runHolding},
		{"churn", "n for", "starts and reaps processes, 4 at a time, for 10s", churn},
		{"sleep", "", "holds nothing", sleep},
		{"worker", "http", "(started by others) serves the listener that it has as fd 3", worker},
		{"tracer", "pid exit-stop", "(started by others) stops all threads of a process", tracer},
		{"stuck", "", "(started by others) has a listener, and looks up a name in the folder that it has as fd 3", stuck},
		{"stuck-thread", "", "(started by others) likewise, on another thread", stuckThread},
		{"stuck-exit", "", "(started by others) serves, and has the file open that it has as fd 3", stuckExit},
		{"run-service", "mark for", "(started by the service control manager) serves", runService},
		{"noop", "", "(started by others) exits", noop},
	}
}

func modeNamed(name string) (mode, bool) {
	all := modes()
	i := slices.IndexFunc(all, func(m mode) bool { return m.name == name })
	if i < 0 {
		return mode{}, false
	}
	return all[i], true
}

func help(w io.Writer) error {
	var b strings.Builder
	b.WriteString("zoo MODE [flags] [ADDR...]\n\nmodes:\n")
	for _, m := range modes() {
		fmt.Fprintf(&b, "  %-13s %s\n", m.name, m.about)
		if m.flags != "" {
			fmt.Fprintf(&b, "  %-13s --%s\n", "", strings.ReplaceAll(m.flags, " ", " --"))
		}
	}
	b.WriteString("\nflags:\n")
	f := new(call).flagSet()
	f.SetOutput(&b)
	f.PrintDefaults()
	_, err := io.WriteString(w, b.String())
	return err
}

// A call is one run of a mode.
type call struct {
	args   []string // what follows the flags
	stdout io.Writer
	over   time.Time

	life, lasting, warmup                                         time.Duration
	n, localPort, idleFDs, argvBytes, pid                         int
	bytes                                                         int64
	portFile, markFile, exe, holds                                string
	comm, argv                                                    list
	leash, mptcp, http, v6only, samePort, reusePort               bool
	parentHolds, stubborn, orphans, stay, cycle, outlive, accepts bool
	exitStop, thread, keep, drains, stopping, child, unreaped     bool
	exclusive, udp                                                bool
}

// A list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func (c *call) flagSet() *flag.FlagSet {
	f := flag.NewFlagSet("zoo", flag.ContinueOnError)
	f.DurationVar(&c.life, "life", 2*time.Minute, "end after this `time`, whatever happens")
	f.BoolVar(&c.leash, "leash", false, "end when stdin does")
	f.StringVar(&c.portFile, "port-file", "", "write the port to this `file`")
	f.DurationVar(&c.warmup, "warmup", 0, "how `long` a server takes before it listens; with respawn, each but the first")
	f.DurationVar(&c.lasting, "for", 0, "how `long`, if not as the mode says")
	f.StringVar(&c.markFile, "mark", "", "write the mode's word to this `file` when its clean-up is done")
	f.IntVar(&c.n, "n", 0, "how `many`, if not as the mode says")
	f.BoolVar(&c.mptcp, "mptcp", false, "listen on MPTCP, as Go servers do by default since 1.24")
	f.BoolVar(&c.http, "http", false, "answer HTTP requests with 200 instead of echoing bytes")
	f.BoolVar(&c.v6only, "v6only", false, "leave IPv4 out of [::]")
	f.BoolVar(&c.samePort, "same-port", false, "give every ADDR the port of the first")
	f.BoolVar(&c.reusePort, "reuseport", false, "set SO_REUSEPORT")
	f.BoolVar(&c.parentHolds, "parent-holds", false, "the parent is one of them")
	f.BoolVar(&c.stubborn, "stubborn", false, "the master, or whoever of a storm has the listener, does not end by SIGTERM")
	f.StringVar(&c.holds, "holds", "port", "what each of a crowd has: a SO_REUSEPORT socket of its own on one `port`, one on a port of its own (ports), the same as its parent (socket), nothing")
	f.BoolVar(&c.unreaped, "unreaped", false, "leave those that end as zombies")
	f.BoolVar(&c.child, "child", false, "start a process that holds nothing, and lives on")
	f.BoolVar(&c.orphans, "orphan-on-kill", true, "workers outlive a master that is killed")
	f.IntVar(&c.localPort, "local-port", 0, "connect from this `port`")
	f.BoolVar(&c.stay, "stay", false, "do not exit")
	f.BoolVar(&c.exclusive, "exclusive", false, "do not set SO_REUSEADDR")
	f.BoolVar(&c.udp, "udp", false, "connect a UDP socket to ADDR")
	f.BoolVar(&c.cycle, "cycle", false, "put the unix sockets in flight as well: the kernel's garbage collector ends the listener")
	f.BoolVar(&c.outlive, "outlive", false, "likewise, and leave it to whoever next closes a unix socket to start the collector")
	f.BoolVar(&c.drains, "drains", false, "do on SIGTERM as in the mode drain")
	f.BoolVar(&c.keep, "keep", false, "have it open as well")
	f.BoolVar(&c.stopping, "stopping", false, "be asked to stop already, which takes as long as --for says")
	f.BoolVar(&c.accepts, "accept", false, "have an accept request pending")
	f.BoolVar(&c.exitStop, "exit-stop", false, "have the tracer stop it again when it ends, so that SIGKILL does not end it")
	f.IntVar(&c.pid, "pid", 0, "trace this `process`")
	f.BoolVar(&c.thread, "thread", false, "another thread than the leading one hangs")
	f.Var(&c.comm, "comm", "`name` for PR_SET_NAME, at most 15 bytes")
	f.Var(&c.argv, "argv", "an `argument` of the falsified command line, argv[0] first; repeat it")
	f.IntVar(&c.argvBytes, "argv-bytes", 0, "make the command line this `long`, at most 6 MiB")
	f.StringVar(&c.exe, "exe", "", "run as a copy of zoo at this `path`, which is left behind")
	f.Int64Var(&c.bytes, "bytes", 1<<30, "how much `memory` to touch")
	f.IntVar(&c.idleFDs, "idle-fds", 0, "open so `many` sockets that do not listen")
	return f
}

func parse(m mode, args []string) (*call, error) {
	c := new(call)
	f := c.flagSet()
	f.SetOutput(io.Discard)
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	var errs []error
	known := strings.Fields(everyFlag + " " + m.flags)
	f.Visit(func(f *flag.Flag) {
		if !slices.Contains(known, f.Name) {
			errs = append(errs, fmt.Errorf("flag --%s is not for this mode", f.Name))
		}
	})
	c.args = f.Args()
	return c, errors.Join(errs...)
}
