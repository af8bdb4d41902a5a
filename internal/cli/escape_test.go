package cli

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestASCII(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"{\"pid\":1}\n", "{\"pid\":1}\n"},
		{`{"name":"서버 Müller"}`, `{"name":"\uc11c\ubc84 M\u00fcller"}`},
		{`"\u00fc𝄞"`, `"\u00fc\ud834\udd1e"`},
		{"\"\xff\"", `"\ufffd"`},
		{"", ""},
	} {
		var buf bytes.Buffer
		if n, err := (escaping{&buf, isASCII}).Write([]byte(tt.in)); n != len(tt.in) || err != nil || buf.String() != tt.want {
			t.Errorf("Write(%q) = %d, %v, and %q is written; want %q", tt.in, n, err, buf.String(), tt.want)
		}
	}
}

func FuzzASCII(f *testing.F) {
	f.Add("서버 Müller 𝄞")
	f.Fuzz(func(t *testing.T, s string) {
		line, err := json.Marshal(s)
		if err != nil {
			t.Skip()
		}
		var buf bytes.Buffer
		if _, err := (escaping{&buf, isASCII}).Write(line); err != nil {
			t.Fatal(err)
		}
		var before, after string
		if err := json.Unmarshal(line, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(buf.Bytes(), &after); err != nil || before != after {
			t.Errorf("%q becomes %q: %v", line, buf.Bytes(), err)
		}
		if i := bytes.IndexFunc(buf.Bytes(), func(c rune) bool { return c > 0x7f }); i >= 0 {
			t.Errorf("%q has a byte beyond ASCII at %d", buf.Bytes(), i)
		}
	})
}
