package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"net"
	"net/http"
	"strings"
)

const (
	tokenLetters = 52
	tokenBytes   = 39
	macBytes     = 16
	deviceBytes  = 12
	clickMin     = 8
	clickMax     = 64
)

// Strict: no newlines within, no bits left over.
var tokenEncoding = base64.RawURLEncoding.Strict()

// seal makes HMAC-SHA256 with one key. It is kept and used again: with the key's two blocks done
// beforehand a MAC costs half. Not for two goroutines at once.
type seal struct {
	mac   hash.Hash
	sum   [sha256.Size]byte
	raw   [tokenBytes]byte
	bytes [64]byte
}

func newSeal(key []byte) *seal {
	return &seal{mac: hmac.New(sha256.New, key)}
}

func (s *seal) of(text []byte) []byte {
	s.mac.Reset() // from the first time on it stands behind the key's block
	s.mac.Write(text)
	return s.mac.Sum(s.sum[:0])
}

// verified gives device id and time of issue, in seconds, of a token that is ours. The id is valid
// until the next token.
func (s *seal) verified(token []byte) (deviceID []byte, issuedAt uint32, genuine bool) {
	if len(token) != tokenLetters {
		return nil, 0, false
	}
	if _, err := tokenEncoding.Decode(s.raw[:], token); err != nil {
		return nil, 0, false
	}
	body, mac := s.raw[:tokenBytes-macBytes], s.raw[tokenBytes-macBytes:]
	if !hmac.Equal(s.of(body)[:macBytes], mac) {
		return nil, 0, false
	}
	return body[1 : 1+deviceBytes], binary.BigEndian.Uint32(body[1+deviceBytes:]), true
}

// pseudonym gives the eight bytes that stand for a device or a network.
func (s *seal) pseudonym(into *[8]byte, of []byte) {
	copy(into[:], s.of(of))
}

func (s *seal) pseudonymOf(into *[8]byte, text string) {
	s.pseudonym(into, append(s.bytes[:0], text...))
}

// clickHash gives the six bytes that stand for a click id.
func clickHash(click []byte) (short [6]byte) {
	whole := sha256.Sum256(click)
	copy(short[:], whole[:])
	return short
}

func isClick(click []byte) bool {
	if len(click) < clickMin || len(click) > clickMax {
		return false
	}
	for _, c := range click {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// clientAddress is the last entry of X-Forwarded-For: what the proxy in front has seen.
func clientAddress(r *http.Request) string {
	lines := r.Header["X-Forwarded-For"]
	if len(lines) == 0 {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		return host
	}
	line := lines[len(lines)-1]
	return strings.TrimSpace(line[strings.LastIndexByte(line, ',')+1:])
}

// wideOf is the network around an address: all before its last dot.
func wideOf(address string) string {
	return address[:max(0, strings.LastIndexByte(address, '.'))]
}

func max(a, b int) int {
	if a > b {
		return a
	}
	return b
}
