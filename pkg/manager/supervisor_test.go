package manager

import (
	"slices"
	"testing"
)

// Who has the holder can give its environment any words: those that are no
// names make no command.
func TestNamesFromTheEnvironment(t *testing.T) {
	for _, tt := range []struct {
		env               map[string]string
		supervisorctl, pm string
	}{
		{map[string]string{"SUPERVISOR_PROCESS_NAME": "web", "name": "web"}, "web", "web"},
		{map[string]string{"SUPERVISOR_PROCESS_NAME": "web_00", "SUPERVISOR_GROUP_NAME": "shop", "pm_id": "0"}, "shop:web_00", "0"},
		{map[string]string{"SUPERVISOR_PROCESS_NAME": "web; touch /tmp/PWNED", "name": "web; touch /tmp/PWNED"}, "", ""},
		{map[string]string{"SUPERVISOR_PROCESS_NAME": "web", "SUPERVISOR_GROUP_NAME": "$(reboot)", "name": "$(reboot)", "pm_id": "3"}, "", "3"},
		{map[string]string{"SUPERVISOR_PROCESS_NAME": "-c/tmp/evil.conf", "name": "--ext"}, "", ""},
		{map[string]string{"SUPERVISOR_PROCESS_NAME": "all", "name": "all"}, "", ""},
		{map[string]string{"SUPERVISOR_PROCESS_NAME": "web\n", "name": "web\n"}, "", ""},
		{map[string]string{"SUPERVISOR_GROUP_NAME": "shop"}, "", ""},
		{nil, "", ""},
	} {
		env := func(key string) string { return tt.env[key] }
		for _, by := range []struct {
			program, name string
			got           []string
		}{{"supervisorctl", tt.supervisorctl, supervisorctl(env)}, {"pm2", tt.pm, pm2ctl(env)}} {
			var want []string
			if by.name != "" {
				want = []string{by.program, "stop", by.name}
			}
			if !slices.Equal(by.got, want) {
				t.Errorf("%s of %q = %q; want %q", by.program, tt.env, by.got, want)
			}
		}
	}
}
