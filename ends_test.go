package killport_test

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Only pkg/process ends anything. The zoo is for tests, and ends its own.
func TestOnlyProcessEndsAnything(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() || s.dir() == "pkg/process" || s.dir() == "internal/zoo" {
			continue
		}
		for _, found := range deadly(s) {
			t.Errorf("%s; only pkg/process may", found)
		}
	}
	foreign := []string{".s", ".S", ".c", ".h", ".cc", ".syso"}
	err := eachFile(func(name string) error {
		if slices.Contains(foreign, path.Ext(name)) && !strings.Contains(name, "testdata/") {
			t.Errorf("%s: nobody looks whether it ends anything", name)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// weapons are what ends a process, or starts something that could, by the
// package that has it. There are raw system calls among them.
var weapons = map[string]*regexp.Regexp{
	"syscall":                  system,
	"golang.org/x/sys/unix":    system,
	"golang.org/x/sys/windows": system,
	"os":                       regexp.MustCompile(`^(FindProcess|StartProcess|Process)$`),
}

var (
	system = regexp.MustCompile(`^(Kill|Tgkill|PidfdSendSignal|Ptrace\w*|ProcessMadvise|Terminate\w*|GenerateConsoleCtrlEvent|NtTerminate\w*` +
		`|(Raw|AllThreads)?Syscall\w*|SYS_\w+|StartProcess|ForkExec|CreateProcess\w*)$`)
	// looked up by name in a DLL
	procedure = regexp.MustCompile(`^((Nt|Zw)?Terminate(Process|Thread|JobObject)|GenerateConsoleCtrlEvent|WinStationTerminateProcess|EndTask|SendMessage\w*|PostMessage\w*)$`)
	killer    = []string{
		"kill", "pkill", "killall", "skill", "snice", "xkill", "fuser", "taskkill", "tskill", "wmic", "gdb",
		"sh", "bash", "dash", "zsh", "fish", "env", "xargs", "sudo", "cmd", "pwsh", "power" + "shell", "busybox", "python", "python3", "perl",
	}
)

// deadly returns what in s may end a process.
func deadly(s source) []string {
	names, found := imported(s)
	flag := func(n ast.Node, format string, args ...any) {
		found = append(found, s.at(n)+": "+fmt.Sprintf(format, args...))
	}
	for _, group := range s.file.Comments {
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, "//go:linkname") {
				flag(c, "go:linkname")
			}
		}
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			from, isPackage := names[identifier(n.X)]
			if weapon := weapons[from]; isPackage && weapon != nil && weapon.MatchString(n.Sel.Name) {
				flag(n, "%s.%s", from, n.Sel.Name)
			}
			if !isPackage && n.Sel.Name == "Process" { // of an exec.Cmd: the way to Kill and Signal
				flag(n, "a field Process")
			}
			if isPackage && from == "os/exec" && !slices.Contains([]string{"Command", "CommandContext", "LookPath", "Cmd", "ExitError", "ErrNotFound", "Error"}, n.Sel.Name) {
				flag(n, "exec.%s", n.Sel.Name)
			}
		case *ast.BasicLit:
			if text, err := strconv.Unquote(n.Value); err == nil && procedure.MatchString(text) {
				flag(n, "the name %s", text)
			}
		case *ast.CallExpr:
			if sel, ok := n.Fun.(*ast.SelectorExpr); ok && names[identifier(sel.X)] == "os/exec" {
				for _, word := range words(n.Args) {
					if slices.Contains(killer, program(word)) {
						flag(n, "exec of %q", word)
					}
				}
			}
		}
		return true
	})
	return found
}

// imported returns the packages by the name that they have in s. One that
// cannot be told apart, or is not Go, is flagged.
func imported(s source) (names map[string]string, found []string) {
	names = map[string]string{}
	for i, from := range s.imports() {
		spec := s.file.Imports[i]
		name := path.Base(from)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		if name == "." && (weapons[from] != nil || from == "os/exec") || from == "C" || from == "plugin" {
			found = append(found, fmt.Sprintf("%s: import %s %q", s.at(spec), name, from))
		}
		names[name] = from
	}
	return names, found
}

func identifier(e ast.Expr) string {
	id, ok := e.(*ast.Ident)
	if !ok {
		return ""
	}
	return id.Name
}

// words returns the string literals among the arguments.
func words(args []ast.Expr) []string {
	var all []string
	for _, arg := range args {
		ast.Inspect(arg, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok {
				if word, err := strconv.Unquote(lit.Value); err == nil {
					all = append(all, word)
				}
			}
			return true
		})
	}
	return all
}

// program is the name of the program at a path.
func program(name string) string {
	name = strings.ToLower(path.Base(strings.ReplaceAll(name, `\`, "/")))
	return strings.TrimSuffix(name, ".exe")
}

// The scan itself finds what it is for, and nothing else.
func TestDeadly(t *testing.T) {
	for _, tt := range []struct {
		imports, code string
		want          bool
	}{
		{`"syscall"`, `syscall.Kill(1, 9)`, true},
		{`"syscall"`, `f := syscall.Kill; f(1, 9)`, true},
		{`sys "syscall"`, `sys.Kill(1, 9)`, true},
		{`. "syscall"`, `Kill(1, 9)`, true},
		{`"syscall"`, `syscall.RawSyscall(62, 1, 9, 0)`, true},
		{`"syscall"`, `syscall.TerminateProcess(h, 1)`, true},
		{`"golang.org/x/sys/unix"`, `unix.Kill(1, 9)`, true},
		{`"golang.org/x/sys/unix"`, `unix.Tgkill(1, 1, 9)`, true},
		{`"golang.org/x/sys/unix"`, `unix.PidfdSendSignal(3, 9, nil, 0)`, true},
		{`"golang.org/x/sys/unix"`, `unix.Syscall(unix.SYS_KILL, 1, 9, 0)`, true},
		{`"golang.org/x/sys/windows"`, `windows.TerminateProcess(h, 1)`, true},
		{`"golang.org/x/sys/windows"`, `windows.NewLazySystemDLL("ntdll.dll").NewProc("NtTerminateProcess")`, true},
		{`"os"`, `p, _ := os.FindProcess(1); p.Kill()`, true},
		{`"os"`, `os.StartProcess("kill", nil, nil)`, true},
		{`"os"`, `var p os.Process; p.Signal(os.Kill)`, true},
		{`"os/exec"`, `cmd := exec.Command("x"); cmd.Process.Kill()`, true},
		{`"os/exec"`, `exec.Command("kill", "1")`, true},
		{`"os/exec"`, `exec.Command("/bin/kill", "1")`, true},
		{`"os/exec"`, `exec.CommandContext(ctx, "taskkill.exe", "/PID", "1")`, true},
		{`"os/exec"`, `exec.Command("C:\\Windows\\System32\\TASKKILL.EXE")`, true},
		{`"os/exec"`, `exec.Command("sh", "-c", line)`, true},
		{`"os/exec"`, `exec.LookPath("pkill")`, true},
		{`"os/exec"`, `exec.Command("nice", "kill", "1")`, true},
		{`"C"`, `C.kill(1, 9)`, true},
		{`_ "unsafe"`, "}\n\n//go:linkname kill syscall.kill\nfunc kill(pid, sig int) error {", true},

		{`"syscall"`, `_ = syscall.SIGKILL`, false},
		{`"os"`, `os.Exit(1)`, false},
		{`"os/exec"`, `exec.Command("docker", "stop", name)`, false},
		{`"github.com/killport/killport/pkg/process"`, `p, _ := process.Open(1); p.Kill()`, false},
		{`"fmt"`, `fmt.Println("kill", []string{"kill", "1"})`, false},
		{`"golang.org/x/sys/unix"`, `unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 0)`, false},
		{`"golang.org/x/sys/windows"`, `windows.NewLazySystemDLL("iphlpapi.dll").NewProc("GetExtendedTcpTable")`, false},
	} {
		s, err := parse("x.go", "package x\n\nimport "+tt.imports+"\n\nfunc f() {\n"+tt.code+"\n}\n")
		if err != nil {
			t.Fatal(err)
		}
		if got := deadly(s); (len(got) > 0) != tt.want {
			t.Errorf("deadly(%s) = %q; want some: %v", tt.code, got, tt.want)
		}
	}
}
