package portdiag

import "testing"

// A service of the kernel is one only where its thread is.
func TestKernelFinding(t *testing.T) {
	for _, test := range []struct {
		port    uint16
		threads []string
		want    bool
	}{
		{2049, []string{"kthreadd", "nfsd"}, true},
		{2049, []string{"kthreadd"}, false},
		{2050, []string{"nfsd"}, false},
		{445, []string{"ksmbd:r445"}, true},
	} {
		f, ok := kernelFinding(test.port, test.threads)
		if ok != test.want || ok && (f.Cause != CauseKernel || f.Remedy == nil) {
			t.Errorf("kernelFinding(%d, %q) = %+v, %v; want %v", test.port, test.threads, f, ok, test.want)
		}
	}
}
