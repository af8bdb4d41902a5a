package manager

import (
	"path"
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
	args    []string // one of which is among the arguments, if there are any here
	restart string
	stop    func(env func(string) string) []string // nil: end it
}

// supervisors are told by the base name of the program, or of what its launcher
// runs, with or without the ending of its language.
var supervisors = []kinship{
	{name: "nodemon", restart: onChange},
	{name: "uvicorn", args: []string{"--reload"}, restart: onChange},
	{name: "hypercorn", args: []string{"--reload"}, restart: onChange},
	{name: "fastapi", args: []string{"dev", "--reload"}, restart: onChange},
	{name: "flask", args: []string{"--debug", "--reload"}, restart: onChange},
	{name: "manage.py", args: []string{"runserver"}, restart: onChange},
	{name: "tsx", args: []string{"watch"}, restart: onChange},
	{name: "ts-node-dev", restart: onChange},
	{name: "node", args: []string{"--watch", "--watch-path"}, restart: onChange},
	{name: "deno", args: []string{"--watch", "--watch-hmr"}, restart: onChange},
	{name: "bun", args: []string{"--watch"}, restart: onChange},
	{name: "dotnet", args: []string{"watch"}, restart: onChange},
	{name: "dotnet-watch.dll", restart: onChange},
	{name: "watchexec", restart: onChange},
	{name: "watchfiles", restart: onChange},
	{name: "watchmedo", args: []string{"auto-restart"}, restart: onChange},
	{name: "cargo-watch", restart: onChange},
	{name: "entr", args: []string{"-r"}, restart: onChange},
	{name: "air", restart: onChange},
	{name: "reflex", restart: onChange},
	{name: "wgo", restart: onChange},
	{name: "forever", restart: "always"},
	{name: "pm2-runtime", restart: "always", stop: pm2ctl},
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
	{name: "pnpm", restart: "no"},
}

// shared supervisors keep several holders, and are not stopped for one.
var shared = append([]string{"pm2"}, process.Keepers...)

// launcher is a program that runs what its arguments name, after options of its
// own.
type launcher struct {
	values string // options that have the next argument as their value
	code   string // options after which comes a program, and not the name of one
	module string // the option after which comes a name
}

// launchers are by the name of the program, without a version.
var launchers = map[string]launcher{
	"node":      {values: "-r --require --import --loader --experimental-loader -C --conditions --watch-path --env-file", code: "-e -p -pe --eval --print"},
	"deno":      {values: "-c --config --import-map", code: "eval"},
	"bun":       {values: "-r --preload --cwd", code: "-e -p --eval --print"},
	"python":    {values: "-X -W", code: "-c", module: "-m"},
	"pypy":      {values: "-X -W", code: "-c", module: "-m"},
	"debugpy":   {values: "--listen --connect --log-to --adapter-access-token", code: "-c --pid", module: "-m"},
	"ruby":      {values: "-I -r -C", code: "-e"},
	"bundle":    {},
	"php":       {values: "-c -d", code: "-r -S"},
	"perl":      {values: "-I", code: "-e -E"},
	"dotnet":    {values: "--depsfile --runtimeconfig --additionalprobingpath --fx-version"},
	"sh":        {values: "-o", code: "-c -lc"},
	"bash":      {values: "-o -O --rcfile --init-file", code: "-c -lc -ic"},
	"dash":      {values: "-o", code: "-c"},
	"env":       {values: "-u -C --unset --chdir"},
	"tini":      {values: "-p -e"},
	"dumb-init": {values: "-r --rewrite"},
	"npx":       {values: "-p --package", code: "-c --call"},
}

func supervisorctl(env func(string) string) []string {
	name := env("SUPERVISOR_PROCESS_NAME")
	if group := env("SUPERVISOR_GROUP_NAME"); name != "" && group != "" && group != name {
		name = group + ":" + name
	}
	if !isName(name) || name == "all" {
		return nil
	}
	return []string{"supervisorctl", "stop", name}
}

func pm2ctl(env func(string) string) []string {
	for _, key := range []string{"name", "pm_id"} {
		if v := env(key); isName(v) && v != "all" {
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
	if len(m.Stop) == 0 && !m.keepsMany() {
		m.Stop = []string{"kill", strconv.Itoa(info.PID)}
	}
	return m
}

// keeper is the holder itself, if that keeps many: pm2's daemon has the sockets
// of all apps in cluster mode.
func keeper(holder process.Info) *Manager {
	m := supervises(holder, func(string) string { return "" })
	if m == nil || !m.keepsMany() {
		return nil
	}
	if strings.HasPrefix(m.Name, "pm2") {
		m.Reason = "it has the ports of all its apps: find yours by pm2 list, and stop it: pm2 stop NAME"
	}
	return m
}

func kinshipOf(info process.Info) (kinship, bool) {
	// pm2's daemon has one argument: "PM2 v6.0.8: God Daemon (/home/ann/.pm2)".
	if len(info.Argv) > 0 && strings.HasPrefix(info.Argv[0], "PM2 v") && strings.Contains(info.Argv[0], "God Daemon") {
		return kinship{name: "pm2", restart: "always", stop: pm2ctl}, true
	}
	for words := titled(info.Argv); len(words) > 0; words = launched(words) {
		at := slices.IndexFunc(supervisors, func(k kinship) bool { return k.is(words) })
		if at >= 0 {
			return supervisors[at], true
		}
	}
	return kinship{}, false
}

// is reports whether the command line is one of the kind. Where it is that of
// an interpreter, what comes after the script is the script's.
func (k kinship) is(words []string) bool {
	if names := namesOf(words[0]); !slices.Contains(names, k.name) {
		return false
	}
	args := words[1:]
	if script := len(launched(words)); k.name == "node" && script > 0 {
		args = words[1 : len(words)-script]
	}
	return len(k.args) == 0 || slices.ContainsFunc(k.args, func(arg string) bool { return has(args, arg) })
}

// has reports whether an argument is among those: "--watch", "--watch=src"; of
// one letter, also among others that come first: "-rs".
func has(args []string, arg string) bool {
	if len(arg) == 2 && arg[0] == '-' {
		for _, word := range args {
			if !strings.HasPrefix(word, "-") {
				return false
			}
			if !strings.HasPrefix(word, "--") && strings.Contains(word, arg[1:]) {
				return true
			}
		}
		return false
	}
	return slices.ContainsFunc(args, func(word string) bool { return word == arg || strings.HasPrefix(word, arg+"=") })
}

// namesOf are those that a program, or a script, goes by: nodemon.js is
// nodemon, yarn-4.1.0.cjs is yarn.
func namesOf(word string) []string {
	base := path.Base(word)
	name := base
	for _, ending := range []string{".py", ".js", ".cjs", ".mjs"} {
		name = strings.TrimSuffix(name, ending)
	}
	if name != base && strings.HasPrefix(name, "yarn-") {
		name = "yarn"
	}
	return []string{base, name}
}

// launched is the command line of what a launcher runs; nil if that is none, or
// runs nothing that has a name.
func launched(words []string) []string {
	l, ok := launchers[strings.TrimRight(path.Base(words[0]), "0123456789.")]
	if !ok {
		return nil
	}
	in := func(options, word string) bool { return slices.Contains(strings.Fields(options), word) }
	for i := 1; i < len(words); i++ {
		switch word := words[i]; {
		case in(l.code, word):
			return nil
		case word == l.module && word != "":
			return words[i+1:]
		case in(l.values, word):
			i++
		case strings.HasPrefix(word, "-"), i == 1 && in("run exec x", word), strings.Contains(word, "=") && path.Base(words[0]) == "env":
		default:
			return words[i:]
		}
	}
	return nil
}

// titled splits a command line that is a title: npm calls itself "npm run dev".
func titled(argv []string) []string {
	if len(argv) == 1 {
		return strings.Fields(argv[0])
	}
	return argv
}
