// Gossip of the peer in main.go, with the network's numbers (network-sync.md 1).
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Counts what comes from others, and knows the meshes, which the library tells nobody else.
type counter struct {
	pubsub.RawTracer
	idontwants, duplicates, oversized, undelivered atomic.Int64
	lock                                           sync.Mutex
	mesh                                           map[string]map[peer.ID]bool
}

func (c *counter) OnNewOutboundStream(peer.ID, protocol.ID) {}
func (c *counter) Join(string)                              {}
func (c *counter) ValidateMessage(*pubsub.Message)          {}
func (c *counter) DeliverMessage(*pubsub.Message)           {}
func (c *counter) RejectMessage(*pubsub.Message, string)    {}
func (c *counter) ThrottlePeer(peer.ID)                     {}
func (c *counter) SendRPC(*pubsub.RPC, peer.ID)             {}
func (c *counter) DropRPC(*pubsub.RPC, peer.ID)             { c.oversized.Add(1) }
func (c *counter) DuplicateMessage(*pubsub.Message)         { c.duplicates.Add(1) }
func (c *counter) UndeliverableMessage(*pubsub.Message)     { c.undelivered.Add(1) }
func (c *counter) SendRPCCompleted(*pubsub.RPC, peer.ID, time.Duration) {
}

func (c *counter) RecvRPC(rpc *pubsub.RPC) {
	for _, list := range rpc.GetControl().GetIdontwant() {
		c.idontwants.Add(int64(len(list.GetMessageIDs())))
	}
}

func (c *counter) Graft(p peer.ID, topic string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.mesh[topic] == nil {
		c.mesh[topic] = map[peer.ID]bool{}
	}
	c.mesh[topic][p] = true
}

func (c *counter) Prune(p peer.ID, topic string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	delete(c.mesh[topic], p)
}

func (c *counter) Leave(topic string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	delete(c.mesh, topic)
}

func (c *counter) OnClosedOutboundStream(p peer.ID) {
	c.lock.Lock()
	defer c.lock.Unlock()
	for _, peers := range c.mesh {
		delete(peers, p)
	}
}

func (c *counter) meshOf(topic string) []string {
	c.lock.Lock()
	defer c.lock.Unlock()
	found := []string{}
	for p := range c.mesh[topic] {
		found = append(found, p.String())
	}
	return found
}

type gossip struct {
	host   host.Host
	pubsub *pubsub.PubSub
	count  *counter
	lock   sync.Mutex
	topics map[string]*pubsub.Topic
	heard  map[string]*pubsub.Subscription
}

func networkID(m *pb.Message) string {
	return fmt.Sprintf("%s%d", peer.ID(m.GetFrom()), binary.BigEndian.Uint64(m.GetSeqno()))
}

func newGossip(h host.Host, arguments map[string]string) (*gossip, error) {
	params := pubsub.DefaultGossipSubParams()
	params.D, params.Dlo, params.Dhi, params.Dout = 4, 2, 8, 1
	params.PruneBackoff, params.UnsubscribeBackoff = time.Second, time.Second
	params.IDontWantMessageThreshold = 1000
	count := &counter{mesh: map[string]map[peer.ID]bool{}}
	options := []pubsub.Option{pubsub.WithGossipSubParams(params), pubsub.WithFloodPublish(arguments["publish"] != "mesh"),
		pubsub.WithMaxMessageSize(1 << 20), pubsub.WithSeenMessagesTTL(time.Minute), pubsub.WithRawTracer(count),
		pubsub.WithMessageSignaturePolicy(pubsub.StrictSign)}
	if arguments["ids"] != "plain" {
		options = append(options, pubsub.WithMessageIdFn(networkID))
	}
	if version := arguments["version"]; version != "" {
		only := []protocol.ID{protocol.ID("/meshsub/" + version)}
		options = append(options, pubsub.WithGossipSubProtocols(only, pubsub.GossipSubDefaultFeatures))
	}
	ps, err := pubsub.NewGossipSub(context.Background(), h, options...)
	return &gossip{host: h, pubsub: ps, count: count, topics: map[string]*pubsub.Topic{}, heard: map[string]*pubsub.Subscription{}}, err
}

func (g *gossip) join(name string) (*pubsub.Topic, error) {
	if topic := g.topics[name]; topic != nil {
		return topic, nil
	}
	topic, err := g.pubsub.Join(name)
	if err == nil {
		g.topics[name] = topic
	}
	return topic, err
}

func (g *gossip) subscribe(name string) error {
	topic, err := g.join(name)
	if err != nil {
		return err
	}
	heard, err := topic.Subscribe(pubsub.WithBufferSize(1024))
	if err != nil {
		return err
	}
	g.heard[name] = heard
	go func() {
		for {
			m, err := heard.Next(context.Background())
			if err != nil {
				return
			}
			if m.ReceivedFrom == g.host.ID() {
				continue // its own
			}
			hash := sha256.Sum256(m.Data)
			say(object{"event": "message", "topic": name, "from": m.GetFrom().String(), "size": len(m.Data), "hash": hex.EncodeToString(hash[:])})
		}
	}()
	return nil
}

// The protocol of every gossip stream, by peer and direction.
func (g *gossip) versions() object {
	found := object{}
	for _, c := range g.host.Network().Conns() {
		for _, s := range c.GetStreams() {
			if !strings.HasPrefix(string(s.Protocol()), "/meshsub/") {
				continue
			}
			id := c.RemotePeer().String()
			if found[id] == nil {
				found[id] = object{}
			}
			direction := "inbound"
			if s.Stat().Direction == network.DirOutbound {
				direction = "outbound"
			}
			found[id].(object)[direction] = string(s.Protocol())
		}
	}
	return found
}

// nil, nil: not a command of gossip.
func (g *gossip) run(ctx context.Context, command map[string]any) (object, error) {
	g.lock.Lock()
	defer g.lock.Unlock()
	name, _ := command["topic"].(string)
	switch command["do"] {
	case "subscribe":
		return object{}, g.subscribe(name)
	case "unsubscribe":
		if heard := g.heard[name]; heard != nil {
			heard.Cancel()
			delete(g.heard, name)
		}
		return object{}, nil
	case "publish":
		topic, err := g.join(name)
		if err != nil {
			return nil, err
		}
		text, _ := command["text"].(string)
		size, _ := command["size"].(float64)
		data := bytes.Repeat([]byte(text), int(size)/len(text)+1)[:int(size)]
		return object{"recipients": len(g.pubsub.ListPeers(name))}, topic.Publish(ctx, data)
	case "subscribers":
		peers := []string{}
		for _, p := range g.pubsub.ListPeers(name) {
			peers = append(peers, p.String())
		}
		return object{"peers": peers, "mesh": g.count.meshOf(name)}, nil
	case "stats":
		return object{"idontwants": g.count.idontwants.Load(), "duplicates": g.count.duplicates.Load(), "oversized": g.count.oversized.Load(),
			"undelivered": g.count.undelivered.Load(), "versions": g.versions()}, nil
	}
	return nil, nil
}
