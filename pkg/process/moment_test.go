package process

import (
	"slices"
	"testing"
)

func TestNewcomers(t *testing.T) {
	for _, tt := range []struct {
		after, last   int
		with, without []int
		least, atMost int
	}{
		{1000, 1003, []int{1001, 1002, 1003}, []int{1000, 1004}, 3, 3},
		{1000, 1000, nil, []int{1000, 1001}, 0, 0},
		{1000, 9000, []int{9000, 8600}, []int{1001}, 512, 512},
		{32765, 305, []int{32766, 32767, 300, 305}, []int{306, 32765, 1, 0}, 300, 1024},
		{0, 0, nil, []int{0, 1}, 0, 0},
		{-8, 3, []int{2, 3}, []int{1, 0, -1}, 2, 2},
		{MaxPID, 300, []int{300}, []int{MaxPID + 1}, 200, 512},
	} {
		got := newcomers(tt.after, tt.last)
		if len(got) < tt.least || len(got) > tt.atMost {
			t.Errorf("newcomers(%d, %d) are %d; want %d to %d", tt.after, tt.last, len(got), tt.least, tt.atMost)
		}
		for _, pid := range tt.with {
			if !slices.Contains(got, pid) {
				t.Errorf("newcomers(%d, %d) lack %d", tt.after, tt.last, pid)
			}
		}
		for _, pid := range tt.without {
			if slices.Contains(got, pid) {
				t.Errorf("newcomers(%d, %d) have %d", tt.after, tt.last, pid)
			}
		}
	}
}
