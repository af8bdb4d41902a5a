package manager

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/killport/killport/pkg/process"
)

// onChange is the rule of watchers: the holder comes back when a file changes.
const onChange = "on-change"

// kinship is a kind of supervisor: how to know one by its command line, and
// its rule.
type kinship struct {
	name    string
	args    []string // all of which are among the arguments
	restart string
	stop    func(env func(string) string) []string // nil: end it
}

// supervisors are told by the base name of one of the first arguments (the
// program, or the script that its interpreter runs). The first match counts.
var supervisors = []kinship{
	{name: "nodemon", restart: onChange},
	{name: "uvicorn", args: []string{"--reload"}, restart: onChange},
	{name: "hypercorn", args: []string{"--reload"}, restart: onChange},
	{name: "flask", args: []string{"--debug"}, restart: onChange},
	{name: "manage.py", args: []string{"runserver"}, restart: onChange},
	{name: "tsx", args: []string{"watch"}, restart: onChange},
	{name: "ts-node-dev", restart: onChange},
	{name: "node", args: []string{"--watch"}, restart: onChange},
	{name: "deno", args: []string{"--watch"}, restart: onChange},
	{name: "bun", args: []string{"--watch"}, restart: onChange},
	{name: "watchexec", restart: onChange},
	{name: "watchfiles", restart: onChange},
	{name: "cargo-watch", restart: onChange},
	{name: "entr", args: []string{"-r"}, restart: onChange},
	{name: "air", restart: onChange},
	{name: "reflex", restart: onChange},
	{name: "wgo", restart: onChange},
	{name: "forever", restart: "always"},
	{name: "supervisord", restart: "always", stop: supervisorctl},
	{name: "circusd", restart: "always"},
	{name: "runsv", restart: "always"},
	{name: "s6-supervise", restart: "always"},
	{name: "supervise", restart: "always"},
	{name: "immortal", restart: "always"},
	{name: "daemon", args: []string{"--respawn"}, restart: "always"},
	{name: "foreman", restart: "no"},
	{name: "honcho", restart: "no"},
	{name: "overmind", restart: "no"},
	{name: "npm", restart: "no"},
	{name: "npm-cli.js", restart: "no"},
	{name: "npx", restart: "no"},
	{name: "yarn", restart: "no"},
	{name: "yarn.js", restart: "no"},
	{name: "pnpm", restart: "no"},
	{name: "pnpm.cjs", restart: "no"},
}

// shared supervisors keep several holders, and are not stopped for one.
var shared = []string{"pm2", "supervisord", "circusd", "runsvdir", "s6-svscan"}

// harmless are names that may stand in a command. They come from the
// environment of the holder, whose user can write anything into it: a flag, or
// what a shell would run.
var harmless = regexp.MustCompile(`^[A-Za-z0-9_.:@][A-Za-z0-9_.:@-]*$`)

func supervisorctl(env func(string) string) []string {
	name := env("SUPERVISOR_PROCESS_NAME")
	if group := env("SUPERVISOR_GROUP_NAME"); name != "" && group != "" && group != name {
		name = group + ":" + name
	}
	if !harmless.MatchString(name) || name == "all" {
		return nil
	}
	return []string{"supervisorctl", "stop", name}
}

func pm2ctl(env func(string) string) []string {
	for _, key := range []string{"name", "pm_id"} {
		if v := env(key); harmless.MatchString(v) && v != "all" {
			return []string{"pm2", "stop", v}
		}
	}
	return nil
}

// supervises reads from what there is to know of a process whether it is a
// supervisor, of a holder with that environment.
func supervises(info process.Info, env func(string) string) *Manager {
	k, ok := kinshipOf(info)
	if !ok {
		return nil
	}
	m := &Manager{Kind: Supervisor, Name: k.name, PID: info.PID, Restart: k.restart}
	if k.stop != nil {
		m.Stop = k.stop(env)
	}
	if len(m.Stop) == 0 && !slices.Contains(shared, k.name) {
		m.Stop = []string{"kill", strconv.Itoa(info.PID)}
	}
	return m
}

func kinshipOf(info process.Info) (kinship, bool) {
	// pm2's daemon has one argument: "PM2 v6.0.8: God Daemon (/home/ann/.pm2)".
	if len(info.Argv) > 0 && strings.HasPrefix(info.Argv[0], "PM2 v") && strings.Contains(info.Argv[0], "God Daemon") {
		return kinship{name: "pm2", restart: "always", stop: pm2ctl}, true
	}
	words := titled(info.Argv)
	for i, word := range words[:min(len(words), 3)] {
		if i > 0 && strings.HasPrefix(word, "-") && i == 1 && words[1] != "-m" {
			continue
		}
		name := strings.TrimSuffix(path.Base(word), ".py")
		for _, k := range supervisors {
			known := name == k.name || path.Base(word) == k.name || strings.TrimSuffix(path.Base(word), ".js") == k.name
			if known && containsAll(words[i:], k.args) {
				return k, true
			}
		}
	}
	return kinship{}, false
}

// titled splits a command line that is a title: npm calls itself "npm run dev".
func titled(argv []string) []string {
	if len(argv) == 1 {
		return strings.Fields(argv[0])
	}
	return argv
}

func containsAll(words, wanted []string) bool {
	return !slices.ContainsFunc(wanted, func(w string) bool { return !slices.Contains(words, w) })
}
