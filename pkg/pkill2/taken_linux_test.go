package pkill2_test

import (
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/killport/killport/pkg/jsonl"
	"github.com/killport/killport/pkg/pkill2"
)

// ended is what the stage makes of a record.
func ended(t *testing.T, in jsonl.Record) (jsonl.Record, pkill2.Result) {
	t.Helper()
	for r, err := range pkill2.Stage(pkill2.Options{Grace: time.Minute})(t.Context(), jsonl.From(in)) {
		var v struct{ Pkill2 pkill2.Result }
		if err != nil || r.Decode(&v) != nil {
			t.Fatalf("Stage(%v) = %v, %v", in, r, err)
		}
		return r, v.Pkill2
	}
	t.Fatalf("Stage(%v) is empty", in)
	return in, pkill2.Result{}
}

// Who takes the port at once, and was born before the kill, has taken it, and is
// no newborn: that is us.
func TestTakenByOneOlderThanTheKill(t *testing.T) {
	s := start(t, "plain")
	in := s.records(t)[0]
	addr := "127.0.0.1:" + strconv.Itoa(int(s.ports[0]))
	time.Sleep(20 * time.Millisecond) // two ticks: we are older than that
	go func() {
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if l, err := net.Listen("tcp", addr); err == nil {
				<-t.Context().Done()
				l.Close()
				return
			}
		}
	}()
	r, got := ended(t, in)
	if got.Outcome != pkill2.Terminated || len(got.TakenBy) != 1 || got.TakenBy[0].PID != os.Getpid() || got.TakenBy[0].Newborn {
		t.Errorf("Stage = %+v; want it terminated, and the port taken by us, who are old", got)
	}
	if pkill2.Reached(r) {
		t.Errorf("Reached(%v) = true; want false", r)
	}
}

// Somebody who has the port on another address was there before, and takes
// nothing.
func TestNotTakenByNeighbours(t *testing.T) {
	s := start(t, "plain")
	in := s.records(t)[0]
	l, err := net.Listen("tcp", "127.0.0.2:"+strconv.Itoa(int(s.ports[0])))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, got := ended(t, in)
	if got.Outcome != pkill2.Terminated || len(got.TakenBy) != 0 || !pkill2.Reached(r) {
		t.Errorf("Stage = %+v; want it terminated, and nothing taken", got)
	}
}

// Who has the port before we come, in place of the socket of the record, has
// taken it; on another address nothing is taken.
func TestTakenBeforeWeCame(t *testing.T) {
	for addr, want := range map[string]bool{"127.0.0.1:": true, "0.0.0.0:": true, "127.0.0.2:": false} {
		s := start(t, "plain")
		in := s.records(t)[0]
		s.cmd.Process.Kill()
		s.signalled(t)
		l, err := net.Listen("tcp4", addr+strconv.Itoa(int(s.ports[0])))
		if err != nil {
			t.Fatal(err)
		}
		r, got := ended(t, in)
		l.Close()
		if got.Outcome != pkill2.Gone || len(got.TakenBy) > 0 != want || pkill2.Reached(r) == want {
			t.Errorf("taken at %s: %+v, reached %v; want it gone, and taken: %v", addr, got, pkill2.Reached(r), want)
		}
	}
}

// Reached is about the address of the record.
func TestReached(t *testing.T) {
	for done, want := range map[string]bool{
		`"outcome":"terminated"`:           true,
		`"outcome":"gone"`:                 true,
		`"outcome":"gone","reason":"held"`: false,
		`"outcome":"ghost"`:                false,
		`"outcome":"denied"`:               false,
		`"outcome":"vanished"`:             false,
		`"outcome":"terminated","taken_by":[{"local_addr":"127.0.0.1","pid":7,"socket":{"inode":1}}]`: false,
		`"outcome":"terminated","taken_by":[{"local_addr":"0.0.0.0","pid":7,"socket":{"inode":1}}]`:   false,
		`"outcome":"terminated","taken_by":[{"local_addr":"[::]","pid":7,"socket":{"inode":1}}]`:      false,
		`"outcome":"terminated","taken_by":[{"local_addr":"127.0.0.2","pid":7,"socket":{"inode":1}}]`: true,
		`"outcome":"terminated","taken_by":[{"local_addr":"[::1]","pid":7,"socket":{"inode":1}}]`:     true,
	} {
		r, err := jsonl.Parse([]byte(`{"proto":"TCP","local_addr":"127.0.0.1","local_port":8000,"pid":8,"socket":{"inode":2},"pkill2":{` + done + `}}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := pkill2.Reached(r); got != want {
			t.Errorf("Reached(%v) = %v; want %v", r, got, want)
		}
	}
}
