// The checked like in Go, twice: a call of the store per like, or a call per batch of likes.
//
// One process, started by loadtest/peers/go_like.py or go_group.py; loadtest/peers/checks.py says
// what every peer checks, is told and prints. It is written as for a service of its own, for speed
// and with care: net/http and redigo, nothing logged per request, what a like needs pooled. It
// seals no receipt, which is to its advantage.
//
//	main.go    what it is told, and how it begins and ends
//	like.go    a like over HTTP: read, check, hand on, answer
//	checks.go  tokens, pseudonyms, addresses
//	body.go    the JSON of a like
//	call.go    a call of like.lua per like
//	group.go   group commit: a call of our own function per batch
//	layout.go  the bytes that our own function takes and gives: the one place that knows them
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	// A head, or head and body, that takes longer is given up; a page sends both in one packet.
	// The same for both, for then net/http sets one deadline and not two.
	readTimeout = 10 * time.Second
	// As the other peers have it: a page's connection outlives a pause between two likes.
	idleTimeout = 75 * time.Second
	stopTimeout = time.Second
	// Of one call of the store.
	storeTimeout = 2 * time.Second
)

// rules are Rules of loadtest/peers/checks.py.
type rules struct {
	LikesPerDay int `json:"likes_per_day"`
	PerDevice   int `json:"per_device"`
	PerNetwork  int `json:"per_network"`
}

// limits gives interval and window in microseconds: of a device, a network, 20 times a network.
func (r rules) limits() [6]int {
	const minute = 60_000_000
	return [6]int{
		minute / r.PerDevice, minute,
		minute / r.PerNetwork, minute,
		minute / r.PerNetwork / 20, minute,
	}
}

// setup is what the peer is told: flags from the wrapper, the rest from the environment.
type setup struct {
	mode       string
	socket     string
	key        []byte
	rules      rules
	library    string // source of the function library to load
	campaign   string
	candidates int
	origin     string
}

func readSetup() (*setup, error) {
	told := &setup{}
	flag.StringVar(&told.mode, "mode", "call", "call: one of the store per like; group: per batch")
	library := flag.String("library", "", "file with the source of the function library")
	flag.StringVar(&told.campaign, "campaign", "", "id of the one campaign")
	flag.IntVar(&told.candidates, "candidates", 0, "how many: c001, c002 ...")
	flag.StringVar(&told.origin, "origin", "", "origin of the page that the likes come from")
	flag.Parse()

	source, err := os.ReadFile(*library)
	if err != nil {
		return nil, err
	}
	told.library = string(source)
	url := os.Getenv("PEER_REDIS_URL")
	told.socket = strings.TrimPrefix(url, "unix://")
	if told.socket == url {
		return nil, fmt.Errorf("PEER_REDIS_URL: %q is no unix:// URL", url)
	}
	if told.key, err = hex.DecodeString(os.Getenv("PEER_KEY")); err != nil {
		return nil, fmt.Errorf("PEER_KEY: %w", err)
	}
	if err := json.Unmarshal([]byte(os.Getenv("PEER_RULES")), &told.rules); err != nil {
		return nil, fmt.Errorf("PEER_RULES: %w", err)
	}
	return told, nil
}

func (s *setup) openBox() (ballotBox, error) {
	switch s.mode {
	case "call":
		return openCalls(s)
	case "group":
		return openGroup(s)
	}
	return nil, fmt.Errorf("-mode: %q is neither call nor group", s.mode)
}

func run() error {
	told, err := readSetup()
	if err != nil {
		return err
	}
	box, err := told.openBox()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           newEdge(told, box),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
	}
	ended, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() {
		// Standard input ends with whoever measures us.
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()

	port := listener.Addr().(*net.TCPAddr).Port
	fmt.Printf("{\"port\": %d, \"pids\": [%d]}\n", port, os.Getpid())
	select {
	case err := <-failed:
		return err
	case <-ended.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := server.Shutdown(grace); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("go peer: ")
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
