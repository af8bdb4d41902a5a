package procfs_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/killport/killport/internal/procfs"
)

func TestSocketInode(t *testing.T) {
	tests := []struct {
		in   string
		want uint64
	}{
		{"socket:[1234]", 1234},
		{"socket:[18446744073709551615]", 1<<64 - 1},
		{"socket:[18446744073709551616]", 0},
		{"socket:[0]", 0},
		{"socket:[01]", 0},
		{"socket:[+1]", 0},
		{"socket:[-1]", 0},
		{"socket:[1_0]", 0},
		{"socket:[ 1]", 0},
		{"socket:[]", 0},
		{"socket:[1", 0},
		{"socket:1]", 0},
		{"socket:[1] (deleted)", 0},
		{"socket:[1]\n", 0},
		{"/socket:[1]", 0},
		{"Socket:[1]", 0},
		{"pipe:[1]", 0},
		{"", 0},
	}
	for _, tt := range tests {
		got, ok := procfs.SocketInode(tt.in)
		if got != tt.want && ok || ok != (tt.want != 0) {
			t.Errorf("SocketInode(%q) = %v, %v; want %v, %v", tt.in, got, ok, tt.want, tt.want != 0)
		}
	}
}

func TestParseIOUringFiles(t *testing.T) {
	tests := []struct {
		name, in string
		want     []uint64
	}{
		// Registered: two TCP sockets and one of AF_UNIX, and files, a pipe and a memfd with names that are made
		// to look like sockets and heads.
		{"recorded", string(sample(t, "fdinfo-io_uring")), []uint64{116202, 116203, 116204}},
		{"no files", "pos:\t0\nUserFiles:\t0\nUserBufs:\t0\n", nil},
		{"empty slots", "UserFiles:\t64\nUserBufs:\t0\n", nil},
		{"at the end", "UserFiles:\t1\n    0: socket:[7]\n", []uint64{7}},
		{"high slots", "UserFiles:\t1048576\n 9999: socket:[1]\n10000: socket:[2]\n1048575: socket:[3]\n", []uint64{1, 2, 3}},
		{"other sections", "SQEs:\t1\n    0: socket:[1]\nUserFiles:\t1\n    0: socket:[2]\nUserBufs:\t1\n    0: socket:[3]\n", []uint64{2}},
		{"same socket twice", "UserFiles:\t2\n    0: socket:[2]\n    1: socket:[2]\n", []uint64{2, 2}},
		// As Linux 5.1 to 6.13 write it: made by hand, after the source.
		{"names without inodes", "UserFiles:\t4\n    0: TCP\n    1: <none>\n    2: a: b\n    3: \nUserBufs:\t0\n", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := procfs.ParseIOUringFiles(iotest.HalfReader(strings.NewReader(tt.in)))
			wantError(t, err)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("ParseIOUringFiles (-want +got):\n%s", diff)
			}
		})
	}
}

// What a busy ring gives was recorded too.
func TestParseIOUringFilesBusy(t *testing.T) {
	for _, in := range []string{"", "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t15037\n"} {
		if got, err := procfs.ParseIOUringFiles(strings.NewReader(in)); got != nil || err != procfs.ErrRingBusy {
			t.Errorf("ParseIOUringFiles(%q) = %v, %v; want nil, %v", in, got, err, procfs.ErrRingBusy)
		}
	}
}

func TestParseIOUringFilesGarbage(t *testing.T) {
	const head = "UserFiles:\t9\n"
	tests := []struct {
		name, in string
		want     []uint64
		words    []string
	}{
		{"no slot", head + "    socket:[1]\n    1: socket:[2]\n", []uint64{2}, []string{"line 2"}},
		{"slot out of range", head + " 1048576: socket:[1]\n    1: socket:[2]\n", []uint64{2}, []string{"line 2", "out of range"}},
		{"negative slot", head + "    -1: socket:[1]\n    1: socket:[2]\n", []uint64{2}, []string{"line 2", "out of range"}},
		{"blank line", head + "\n    1: socket:[2]\n", []uint64{2}, []string{"line 2"}},
		{"cut off", head + "    0: socket:[1]\n    1: socket:[22", []uint64{1}, []string{"line 3", "cut off"}},
		{"long line", head + "    0: /" + strings.Repeat("x", 1<<17) + "\n    1: socket:[2]\n", []uint64{2}, []string{"line 2"}},
		{"cut off early", "pos:\t0\nUserF", nil, []string{"line 2", "cut off"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := procfs.ParseIOUringFiles(strings.NewReader(tt.in))
			wantError(t, err, tt.words...)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("ParseIOUringFiles (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseIOUringFilesBound(t *testing.T) {
	in := "UserFiles:\t1\n" + strings.Repeat("    0: socket:[1]\n", 1<<20+1)
	got, err := procfs.ParseIOUringFiles(strings.NewReader(in))
	if len(got) != 1<<20 || err == nil || !strings.Contains(err.Error(), "line 1048578: too many files") {
		t.Errorf("ParseIOUringFiles = %d inodes, %v; want %d, an error", len(got), err, 1<<20)
	}
}

func FuzzIOUring(f *testing.F) {
	addSamples(f, "fdinfo-*")
	f.Add([]byte("UserFiles:\t1\n    0: socket:[7]\nUserBufs:\t0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		inodes, err := procfs.ParseIOUringFiles(bytes.NewReader(b))
		if max := bytes.Count(b, []byte("socket:[")); len(inodes) > max || slices.Contains(inodes, 0) {
			t.Fatalf("inodes %d out of %d", inodes, max)
		}
		if errors.Is(err, procfs.ErrRingBusy) && (inodes != nil || bytes.HasPrefix(b, []byte("UserFiles:\n"))) {
			t.Fatalf("%v, with inodes %d", err, inodes)
		}
	})
}

func TestParseCmdline(t *testing.T) {
	tests := []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"\x00", nil},
		{"\x00\x00\x00", nil},
		{"sleep\x0010\x00", []string{"sleep", "10"}},
		{"sleep\x0010", []string{"sleep", "10"}},
		{"\x00a\x00\x00b\x00", []string{"", "a", "", "b"}},
		{"nginx: worker process\x00\x00\x00\x00", []string{"nginx: worker process"}},
		{"a b\n\xff\x1b[m\x00", []string{"a b\n\xff\x1b[m"}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, procfs.ParseCmdline([]byte(tt.in))); diff != "" {
			t.Errorf("ParseCmdline(%q) (-want +got):\n%s", tt.in, diff)
		}
	}
}
