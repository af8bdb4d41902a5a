package jsonl

// MaxKept bounds, in bytes, what a stage keeps that reads all records before it
// does anything. Each counts as its line and one KiB more, for what is known of it
// beside: 23,000 records of an ordinary length fit.
const MaxKept = 28 << 20

// Room is what is left of [MaxKept] for the records of one sequence. The zero
// Room is all of it.
type Room struct{ taken int }

// Take makes room for r and so many bytes that are kept beside it. Its error
// says that there is none: then nothing can be done for the sequence as a whole.
func (room *Room) Take(r Record, beside int) error {
	const each = 1 << 10
	room.taken += len(r.raw) + each + beside
	if room.taken > MaxKept {
		return r.Errorf("more than %d MiB of records: nothing was done, for none of them", MaxKept>>20)
	}
	return nil
}
