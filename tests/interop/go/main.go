// A go-libp2p peer for interop.py, gossip.py and soak.py: listens, answers, and does what JSON lines on its standard input say. One JSON object per
// line out. Arguments: seed=N (an identity that a restart keeps), ids=plain, publish=mesh, version=1.1.0 (the only one spoken).
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

const (
	large   = "/interop/large/1"
	echo    = "/interop/echo/1"
	size    = 64 << 20
	block   = 64 << 10
	atOnce  = 50
	timeout = 120 * time.Second
)

type object map[string]any

var sayLock sync.Mutex

func say(o object) {
	sayLock.Lock()
	defer sayLock.Unlock()
	json.NewEncoder(os.Stdout).Encode(o)
}

// Sends the pattern while it reads what comes; the hashes of both.
func transfer(s network.Stream) object {
	sent := sha256.New()
	failed := make(chan error, 1)
	go func() {
		buf := make([]byte, block)
		for i := 0; i < size/block; i++ {
			for k := range buf {
				buf[k] = byte(i % 251)
			}
			sent.Write(buf)
			if _, err := s.Write(buf); err != nil {
				failed <- err
				return
			}
		}
		failed <- s.CloseWrite()
	}()
	got := sha256.New()
	n, err := io.Copy(got, s)
	if writeErr := <-failed; err == nil {
		err = writeErr
	}
	if err != nil {
		s.Reset()
		return object{"error": fmt.Sprintf("%v after %d bytes", err, n)}
	}
	s.Close()
	return object{"sent": hex.EncodeToString(sent.Sum(nil)), "got": hex.EncodeToString(got.Sum(nil)), "bytes": n}
}

func with(o object, more object) object {
	for k, v := range more {
		o[k] = v
	}
	return o
}

func many(ctx context.Context, h host.Host, id peer.ID, count int) object {
	var lock sync.Mutex
	var group sync.WaitGroup
	good, slots := 0, make(chan struct{}, atOnce)
	for i := 0; i < count; i++ {
		group.Add(1)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; group.Done() }()
			s, err := h.NewStream(ctx, id, echo)
			if err != nil {
				return
			}
			s.Write([]byte("hello"))
			s.CloseWrite()
			answer, err := io.ReadAll(s)
			s.Close()
			if err == nil && bytes.Equal(answer, []byte("hello")) {
				lock.Lock()
				good++
				lock.Unlock()
			}
		}()
	}
	group.Wait()
	return object{"good": good}
}

func run(h host.Host, g *gossip, command map[string]any) (object, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if answer, err := g.run(ctx, command); answer != nil || err != nil {
		return answer, err
	}
	text, _ := command["address"].(string)
	info, err := peer.AddrInfoFromString(text)
	if err != nil {
		return nil, err
	}
	if command["do"] == "disconnect" {
		return object{}, h.Network().ClosePeer(info.ID)
	}
	if err := h.Connect(ctx, *info); err != nil {
		return nil, err
	}
	switch command["do"] {
	case "dial":
		return object{"peer": info.ID.String()}, nil
	case "ping":
		result := <-ping.Ping(ctx, h, info.ID)
		return object{"ms": float64(result.RTT.Microseconds()) / 1000}, result.Error
	case "large":
		s, err := h.NewStream(ctx, info.ID, large)
		if err != nil {
			return nil, err
		}
		return transfer(s), nil
	case "many":
		count, _ := command["count"].(float64)
		return many(ctx, h, info.ID, int(count)), nil
	}
	return nil, fmt.Errorf("unknown command %v", command["do"])
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	arguments := map[string]string{}
	for _, argument := range os.Args[1:] {
		name, value, _ := strings.Cut(argument, "=")
		arguments[name] = value
	}
	options := []libp2p.Option{libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New), libp2p.Muxer(yamux.ID, yamux.DefaultTransport), libp2p.DisableRelay(),
		libp2p.ResourceManager(&network.NullResourceManager{})}
	if seed, err := strconv.Atoi(arguments["seed"]); err == nil {
		key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(seed)}, ed25519.SeedSize)))
		fail(err)
		options = append(options, libp2p.Identity(key))
	}
	h, err := libp2p.New(options...)
	fail(err)
	g, err := newGossip(h, arguments)
	fail(err)
	h.SetStreamHandler(echo, func(s network.Stream) {
		io.Copy(s, s)
		s.Close()
	})
	h.SetStreamHandler(large, func(s network.Stream) { say(with(object{"event": "large"}, transfer(s))) })
	h.Network().Notify(&network.NotifyBundle{
		ConnectedF: func(_ network.Network, c network.Conn) {
			say(object{"event": "connect", "peer": c.RemotePeer().String()})
		},
		DisconnectedF: func(_ network.Network, c network.Conn) {
			say(object{"event": "disconnect", "peer": c.RemotePeer().String()})
		},
	})
	identified, _ := h.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	go func() {
		for e := range identified.Out() {
			done := e.(event.EvtPeerIdentificationCompleted)
			say(object{"event": "identify", "peer": done.Peer.String(), "agent": done.AgentVersion, "protocol": done.ProtocolVersion, "protocols": done.Protocols})
		}
	}()
	say(object{"event": "ready", "peer": h.ID().String(), "addresses": []string{h.Addrs()[0].String() + "/p2p/" + h.ID().String()}})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var command map[string]any
		json.Unmarshal(lines.Bytes(), &command)
		if command["do"] == "stop" {
			h.Close()
			say(object{"event": "done", "id": command["id"]})
			return
		}
		go func() {
			answer, err := run(h, g, command)
			if err != nil {
				answer = object{"error": err.Error()}
			}
			say(with(object{"event": "done", "id": command["id"]}, answer))
		}()
	}
}
