// gowork [ROUNDS]: rounds of work that goroutines share, each round's sum in a line.
//
// What a round comes to follows from its number and from the rounds before, however its goroutines
// are scheduled: whoever runs it unmoved gets the same lines. There is much for the runtime to do:
// goroutines that are made and end, loops that only a signal (SIGURG) interrupts, garbage, timers,
// channels, locks, system calls that keep a thread, threads locked to goroutines.
// Without ROUNDS it goes on until SIGUSR1 and then prints "end" and how many there were. EVERY_MS is
// the least time of a round.
// Lines: "NUMBER SUM". What is found to be wrong is said in a line "wrong: ...", and ends it by 1.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	spinners = 4
	stages   = 8
	items    = 200
	accounts = 16
	start    = 1000
	bankers  = 8
)

func wrong(what string) {
	os.Stdout.WriteString("wrong: " + what + "\n")
	os.Exit(1)
}

type dice uint64

func (d *dice) roll(sides uint64) uint64 {
	x := uint64(*d)
	x ^= x >> 12
	x ^= x << 25
	x ^= x >> 27
	*d = dice(x)
	return x * 0x2545f4914f6cdd1d % sides
}

// A loop without a call in it: other goroutines of its thread have to wait for a signal.
func spin(seed uint64) uint64 {
	x := seed | 1
	for i := 0; i < 4000000; i++ {
		x = x*6364136223846793005 + 1442695040888963407
	}
	return x
}

// Numbers go through a row of goroutines, each of which turns them into a hash of them.
func pipeline(seed uint64) uint64 {
	first := make(chan []byte)
	in := first
	for s := 0; s < stages; s++ {
		out := make(chan []byte, s%3)
		go func(in, out chan []byte) {
			for block := range in {
				sum := sha256.Sum256(block)
				out <- append(block[:0:0], sum[:]...)
			}
			close(out)
		}(in, out)
		in = out
	}
	go func() {
		for i := uint64(0); i < items; i++ {
			block := make([]byte, 8+i%300)
			binary.LittleEndian.PutUint64(block, seed+i)
			first <- block
		}
		close(first)
	}()
	sum := uint64(0)
	count := 0
	for block := range in {
		sum = sum*31 + binary.LittleEndian.Uint64(block)
		count++
	}
	if count != items {
		wrong("the pipeline lost items")
	}
	return sum
}

type node struct {
	key         uint64
	left, right *node
	payload     []byte
}

func (n *node) insert(key uint64) *node {
	if n == nil {
		return &node{key: key, payload: []byte(strconv.FormatUint(key, 16))}
	}
	if key < n.key {
		n.left = n.left.insert(key)
	} else if key > n.key {
		n.right = n.right.insert(key)
	}
	return n
}

func (n *node) walk(visit func(*node)) {
	if n == nil {
		return
	}
	n.left.walk(visit)
	visit(n)
	n.right.walk(visit)
}

// Garbage, and what is kept among it.
func forest(seed uint64) uint64 {
	d := dice(seed | 1)
	sum := uint64(0)
	for t := 0; t < 4; t++ {
		var root *node
		index := map[string]uint64{}
		for i := 0; i < 3000; i++ {
			key := d.roll(1 << 40)
			root = root.insert(key)
			index[strconv.FormatUint(key, 16)] = key
		}
		var keys []uint64
		root.walk(func(n *node) {
			if index[string(n.payload)] != n.key {
				wrong("a node has changed")
			}
			keys = append(keys, n.key)
		})
		if len(keys) != len(index) || !sort.SliceIsSorted(keys, func(a, b int) bool { return keys[a] < keys[b] }) {
			wrong("a tree is out of order")
		}
		for _, key := range keys {
			sum = sum*31 + key
		}
	}
	return sum
}

// Amounts go from one account to another, each under a lock of its own, and none is lost.
func bank(seed uint64) uint64 {
	var lock [accounts]sync.Mutex
	var amount [accounts]int64
	for i := range amount {
		amount[i] = start
	}
	var all sync.WaitGroup
	var transfers atomic.Int64
	for b := 0; b < bankers; b++ {
		all.Add(1)
		go func(d dice) {
			defer all.Done()
			for i := 0; i < 2000; i++ {
				from, to := d.roll(accounts), d.roll(accounts)
				if from == to {
					continue
				}
				first, second := from, to
				if first > second {
					first, second = second, first
				}
				lock[first].Lock()
				lock[second].Lock()
				n := int64(d.roll(100))
				amount[from] -= n
				if d.roll(500) == 0 {
					runtime.Gosched()
				}
				amount[to] += n
				lock[second].Unlock()
				lock[first].Unlock()
				transfers.Add(1)
			}
		}(dice(seed + uint64(b) | 1))
	}
	all.Wait()
	sum, hash := int64(0), uint64(0)
	for _, a := range amount {
		sum += a
		hash = hash*31 + uint64(a)
	}
	if sum != accounts*start {
		wrong("the sum of the accounts")
	}
	return hash ^ uint64(transfers.Load())
}

// Calls that keep a thread, on a goroutine that has one for itself: through a pipe that blocks.
func talk(seed uint64) uint64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var ends [2]int
	if syscall.Pipe(ends[:]) != nil {
		wrong("pipe")
	}
	defer syscall.Close(ends[0])
	defer syscall.Close(ends[1])
	tid := syscall.Gettid()
	go func() {
		for i := 0; i < 20; i++ {
			var said [100]byte
			for j := range said {
				said[j] = byte(seed + uint64(i*j))
			}
			if n, err := syscall.Write(ends[1], said[:]); n != len(said) || err != nil {
				wrong(fmt.Sprint("write: ", n, err))
			}
		}
	}()
	sum := uint64(0)
	for got := 0; got < 2000; {
		var heard [100]byte
		n, err := syscall.Read(ends[0], heard[:])
		if err == syscall.EINTR {
			continue
		}
		if n <= 0 || err != nil {
			wrong(fmt.Sprint("read: ", n, err))
		}
		for _, b := range heard[:n] {
			sum = sum*31 + uint64(b)
		}
		got += n
	}
	if syscall.Gettid() != tid {
		wrong("another thread")
	}
	return sum
}

// Sleeps by the runtime's timers: no one ends early.
func timers(seed uint64) uint64 {
	var all sync.WaitGroup
	for t := uint64(1); t <= 10; t++ {
		all.Add(1)
		go func(length time.Duration) {
			defer all.Done()
			begun := time.Now()
			select {
			case <-time.After(length):
			case <-time.After(time.Minute):
				wrong("the longer timer was first")
			}
			if time.Since(begun) < length {
				wrong("a timer came early")
			}
		}(time.Duration(t) * time.Millisecond)
	}
	all.Wait()
	return seed
}

// A nil pointer is a signal (SIGSEGV) that becomes a panic.
func faults(seed uint64) uint64 {
	caught := uint64(0)
	for i := 0; i < 20; i++ {
		func() {
			defer func() {
				if recover() != nil {
					caught++
				}
			}()
			var none *node
			none.key = seed
		}()
	}
	if caught != 20 {
		wrong("a fault was not caught")
	}
	return seed + caught
}

func round(number, before uint64) uint64 {
	jobs := []func(uint64) uint64{pipeline, forest, bank, talk, timers, faults}
	for i := 0; i < spinners; i++ {
		jobs = append(jobs, spin)
	}
	sums := make([]uint64, len(jobs))
	var all sync.WaitGroup
	for i, job := range jobs {
		all.Add(1)
		go func(i int, job func(uint64) uint64) {
			defer all.Done()
			sums[i] = job(before + number*1000003 + uint64(i))
		}(i, job)
	}
	all.Wait()
	sum := before
	for _, s := range sums {
		sum = sum*0x9e3779b97f4a7c15 + s
	}
	if number%16 == 0 {
		runtime.GC()
	}
	return sum
}

func main() {
	rounds := uint64(1) << 63
	if len(os.Args) > 1 {
		rounds, _ = strconv.ParseUint(os.Args[1], 10, 63)
	}
	every, _ := strconv.Atoi(os.Getenv("EVERY_MS"))
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGUSR1)
	sum, number := uint64(1), uint64(0)
	for stopped := false; !stopped && number < rounds; number++ {
		begun := time.Now()
		sum = round(number, sum)
		line := fmt.Sprintf("%d %016x\n", number, sum)
		if n, err := os.Stdout.WriteString(line); n != len(line) || err != nil {
			os.Exit(3)
		}
		select {
		case <-stop:
			stopped = true
		case <-time.After(time.Until(begun.Add(time.Duration(every) * time.Millisecond))):
		}
	}
	fmt.Printf("end %d\n", number)
}
