//! A rust-libp2p peer for interop.py, gossip.py and discovery.py, configured as the network's own nodes are (network-sync.md 1): listens, answers,
//! and does what JSON lines on its standard input say. One JSON object per line out. Arguments: seed=N (an identity that a restart keeps),
//! listen=MULTIADDR, mdns=yes (and dial whom it finds), ids=plain, publish=mesh, version=1.1.0 (the only one spoken; 1.2.0: the default).
mod accept;
mod record;

use futures::StreamExt;
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, MessageId, PublishError};
use libp2p::kad::store::{MemoryStore, RecordStore};
use libp2p::kad::{self, GetClosestPeersOk, GetRecordOk, InboundRequest, QueryId, QueryResult, Quorum, Record, StoreInserts};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{dial_opts::DialOpts, ConnectionId, NetworkBehaviour, SwarmEvent};
use libp2p::{identify, identity::Keypair, mdns, multiaddr::Protocol, noise, ping, rendezvous, tcp, yamux, Multiaddr, PeerId, StreamProtocol, Swarm};
use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::time::Duration;
use tokio::io::AsyncBufReadExt;

const KAD: StreamProtocol = StreamProtocol::new("/calimero/kad/1.0.0");
const AT_ONCE: usize = 50;
const RPC_MAX: usize = 1 << 20;

type Failure = Box<dyn std::error::Error + Send + Sync>;

pub fn say(object: &Value) {
    let mut out = std::io::stdout().lock();
    // Nobody reads any more when the test is over.
    let _ = writeln!(out, "{object}").and_then(|()| out.flush());
}

fn done(id: &Value, result: Result<Value, String>) {
    let mut answer = result.unwrap_or_else(|error| json!({ "error": error }));
    answer["event"] = "done".into();
    answer["id"] = id.clone();
    say(&answer);
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    accept: accept::Behaviour,
    streams: libp2p_stream::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    gossip: gossipsub::Behaviour,
    kad: kad::Behaviour<MemoryStore>,
    point: rendezvous::server::Behaviour,
    rendezvous: rendezvous::client::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

fn argument(name: &str) -> Option<String> {
    std::env::args().find_map(|text| text.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}

fn gossip_config() -> Result<gossipsub::Config, gossipsub::ConfigBuilderError> {
    let mut config = gossipsub::ConfigBuilder::default();
    config.max_transmit_size(RPC_MAX).mesh_n_low(2).mesh_n(4).mesh_n_high(8).mesh_outbound_min(1);
    config.prune_backoff(Duration::from_secs(1)).unsubscribe_backoff(1);
    config.flood_publish(argument("publish").as_deref() != Some("mesh"));
    if argument("ids").as_deref() == Some("plain") {
        config.message_id_fn(|message| {
            let author = message.source.map(|peer| peer.to_bytes()).unwrap_or_default();
            let number = message.sequence_number.unwrap_or_default().to_be_bytes();
            MessageId::from([author, number.to_vec()].concat())
        });
    }
    match argument("version").as_deref() {
        Some("1.1.0") => config.protocol_id("/meshsub/1.1.0", gossipsub::Version::V1_1),
        Some("1.0.0") => config.protocol_id("/meshsub/1.0.0", gossipsub::Version::V1_0),
        _ => &mut config,
    };
    config.build()
}

fn behaviour(key: &Keypair, figures: &mut prometheus_client::registry::Registry) -> Result<Behaviour, Failure> {
    let me = key.public().to_peer_id();
    let mut config = kad::Config::new(KAD);
    config.set_record_filtering(StoreInserts::FilterBoth);
    config.set_record_ttl(Some(Duration::from_secs(12 * 3600))).set_publication_interval(Some(Duration::from_secs(6 * 3600)));
    let mut kad = kad::Behaviour::with_config(me, MemoryStore::new(me), config);
    kad.set_mode(Some(kad::Mode::Server));
    let mut gossip = gossipsub::Behaviour::new(MessageAuthenticity::Signed(key.clone()), gossip_config()?)?
        .with_metrics(figures, gossipsub::MetricsConfig::default());
    gossip.with_peer_score(gossipsub::PeerScoreParams::default(), gossipsub::PeerScoreThresholds::default())?;
    let mdns = match argument("mdns") {
        Some(_) => Some(mdns::tokio::Behaviour::new(mdns::Config::default(), me)?),
        None => None,
    };
    Ok(Behaviour {
        accept: accept::Behaviour,
        streams: libp2p_stream::Behaviour::new(),
        identify: identify::Behaviour::new(
            identify::Config::new("/calimero-network/0.0.0".into(), key.public()).with_push_listen_addr_updates(true),
        ),
        ping: ping::Behaviour::default(),
        gossip,
        kad,
        point: rendezvous::server::Behaviour::new(rendezvous::server::Config::default()),
        rendezvous: rendezvous::client::Behaviour::new(key.clone()),
        mdns: mdns.into(),
    })
}

/// What a Kademlia query was begun for: the command, and what was found so far.
struct Query {
    id: Value,
    found: Vec<Value>,
    wanted: Option<PeerId>,
}

struct Node {
    swarm: Swarm<Behaviour>,
    key: Keypair,
    figures: prometheus_client::registry::Registry,
    dials: HashMap<ConnectionId, Value>,
    queries: HashMap<QueryId, Query>,
    rtts: HashMap<PeerId, Duration>,
    heard: Vec<Value>,
    oversized: bool,
}

fn text<'a>(command: &'a Value, name: &str) -> Result<&'a str, String> {
    command[name].as_str().ok_or(format!("no {name}"))
}

fn bytes(command: &Value, name: &str) -> Result<Vec<u8>, String> {
    let digits = text(command, name)?;
    (0..digits.len() / 2).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).map_err(|e| e.to_string())).collect()
}

fn address_of(command: &Value) -> Result<(Multiaddr, PeerId), String> {
    let address: Multiaddr = text(command, "address")?.parse().map_err(|e| format!("{e}"))?;
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Ok((address, peer)),
        _ => Err("no peer id in the address".into()),
    }
}

impl Node {
    /// None: the answer comes later.
    fn run(&mut self, command: &Value) -> Result<Option<Value>, String> {
        let behaviour = self.swarm.behaviour_mut();
        let topic = || text(command, "topic").map(IdentTopic::new);
        Ok(Some(match text(command, "do")? {
            "dial" => return self.dial(command),
            "large" | "many" => return self.open(command),
            "disconnect" => {
                let _ = self.swarm.disconnect_peer_id(address_of(command)?.1); // gone already is as good
                json!({})
            }
            "ping" => json!({ "ms": self.rtts.get(&address_of(command)?.1).map_or(0.0, |rtt| rtt.as_secs_f64() * 1000.0) }),
            "connected" => json!({ "peers": self.swarm.connected_peers().map(PeerId::to_string).collect::<Vec<_>>() }),
            "subscribe" => json!({ "new": behaviour.gossip.subscribe(&topic()?).map_err(|e| e.to_string())? }),
            "unsubscribe" => json!({ "was": behaviour.gossip.unsubscribe(&topic()?) }),
            "publish" => return self.publish(command, topic()?),
            "subscribers" => {
                let hash = topic()?.hash();
                let peers = behaviour.gossip.all_peers().filter(|(_, topics)| topics.contains(&&hash)).map(|(peer, _)| peer.to_string());
                json!({ "peers": peers.collect::<Vec<_>>(), "mesh": behaviour.gossip.mesh_peers(&hash).map(PeerId::to_string).collect::<Vec<_>>() })
            }
            "heard" => json!({ "messages": self.heard }),
            "stats" => self.stats()?,
            "provide" => {
                let key = bytes(command, "key")?;
                let value = record::sign(&self.key, &key, command["size"].as_u64().unwrap_or(0));
                let query = behaviour.kad.put_record(Record::new(key, value), Quorum::One).map_err(|e| e.to_string())?;
                return self.query(query, command, None);
            }
            "providers" => {
                let query = behaviour.kad.get_record(kad::RecordKey::new(&bytes(command, "key")?));
                return self.query(query, command, None);
            }
            "find" => {
                let peer: PeerId = text(command, "peer")?.parse().map_err(|e| format!("{e}"))?;
                let query = behaviour.kad.get_closest_peers(peer);
                return self.query(query, command, Some(peer));
            }
            "records" => json!({ "count": behaviour.kad.store_mut().records().count() }),
            "register" => {
                let name = rendezvous::Namespace::new(text(command, "name")?.into()).map_err(|e| e.to_string())?;
                behaviour.rendezvous.register(name, address_of(command)?.1, None).map_err(|e| e.to_string())?;
                json!({})
            }
            other => return Err(format!("unknown command {other}")),
        }))
    }

    fn dial(&mut self, command: &Value) -> Result<Option<Value>, String> {
        let (address, peer) = address_of(command)?;
        if self.swarm.is_connected(&peer) {
            return Ok(Some(json!({ "peer": peer.to_string() })));
        }
        let options = DialOpts::peer_id(peer).addresses(vec![address]).build();
        let id = options.connection_id();
        self.swarm.dial(options).map_err(|e| e.to_string())?;
        self.dials.insert(id, command["id"].clone());
        Ok(None)
    }

    fn open(&mut self, command: &Value) -> Result<Option<Value>, String> {
        let (_, peer) = address_of(command)?;
        let mut control = self.swarm.behaviour().streams.new_control();
        let (id, count, large) = (command["id"].clone(), command["count"].as_u64().unwrap_or(0) as usize, command["do"] == "large");
        tokio::spawn(async move {
            if large {
                let result = match control.open_stream(peer, accept::LARGE).await {
                    Ok(stream) => accept::transfer(stream).await.map_err(|e| e.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                return done(&id, result);
            }
            let mut workers = tokio::task::JoinSet::new();
            for worker in 0..AT_ONCE {
                let mut control = control.clone();
                workers.spawn(async move {
                    let mut good = 0;
                    for _ in (worker..count).step_by(AT_ONCE) {
                        if let Ok(stream) = control.open_stream(peer, accept::ECHO).await {
                            good += usize::from(accept::ask_echo(stream).await.unwrap_or(false));
                        }
                    }
                    good
                });
            }
            let good: usize = workers.join_all().await.into_iter().sum();
            done(&id, Ok(json!({ "good": good })));
        });
        Ok(None)
    }

    fn publish(&mut self, command: &Value, topic: IdentTopic) -> Result<Option<Value>, String> {
        let size = command["size"].as_u64().unwrap_or(0) as usize;
        let data: Vec<u8> = text(command, "text")?.bytes().cycle().take(size).collect();
        match self.swarm.behaviour_mut().gossip.publish(topic, data) {
            Ok(_) | Err(PublishError::NoPeersSubscribedToTopic) => Ok(Some(json!({}))),
            Err(PublishError::MessageTooLarge) => {
                self.oversized = true;
                Ok(Some(json!({})))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// The protocol of a peer's streams is what gossipsub notes of it, the same for both directions.
    fn stats(&self) -> Result<Value, String> {
        let mut figures = String::new();
        prometheus_client::encoding::text::encode(&mut figures, &self.figures).map_err(|e| e.to_string())?;
        let sum = |name: &str| -> f64 {
            let mine = figures.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
            mine.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        let mut versions = serde_json::Map::new();
        for (peer, kind) in self.swarm.behaviour().gossip.peer_protocol() {
            let version = match format!("{kind:?}").as_str() {
                "Gossipsubv1_2" => "/meshsub/1.2.0",
                "Gossipsubv1_1" => "/meshsub/1.1.0",
                "Gossipsub" => "/meshsub/1.0.0",
                _ => continue,
            };
            versions.insert(peer.to_string(), json!({ "inbound": version, "outbound": version }));
        }
        Ok(json!({
            "versions": versions, "oversized": self.oversized, "idontwants": sum("idontwant_msgs_ids_total"),
            "duplicates": sum("topic_msg_recv_counts_unfiltered_total") - sum("topic_msg_recv_counts_total")
        }))
    }

    fn query(&mut self, query: QueryId, command: &Value, wanted: Option<PeerId>) -> Result<Option<Value>, String> {
        self.queries.insert(query, Query { id: command["id"].clone(), found: Vec::new(), wanted });
        Ok(None)
    }

    fn on_kad(&mut self, event: kad::Event) {
        match event {
            // Stored only when it is signed by the peer that it names.
            kad::Event::InboundRequest { request: InboundRequest::PutRecord { record: Some(given), .. } } => {
                let good = record::verify(given.key.as_ref(), &given.value).is_some();
                let stored = good && self.swarm.behaviour_mut().kad.store_mut().put(given).is_ok();
                say(&json!({ "event": "record", "stored": stored }));
            }
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => {
                let Some(query) = self.queries.get_mut(&id) else { return };
                match result {
                    QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => {
                        if let Some((peer, size)) = record::verify(found.record.key.as_ref(), &found.record.value) {
                            query.found.push(json!({ "peer": peer.to_string(), "size": size }));
                        }
                    }
                    QueryResult::GetClosestPeers(Ok(GetClosestPeersOk { peers, .. })) => {
                        for peer in peers.iter().filter(|peer| query.wanted.is_none_or(|wanted| wanted == peer.peer_id)) {
                            query.found.push(json!({ "peer": peer.peer_id.to_string(), "addresses": peer.addrs.iter().map(ToString::to_string).collect::<Vec<_>>() }));
                        }
                    }
                    QueryResult::PutRecord(Err(error)) if step.last => {
                        let query = self.queries.remove(&id).expect("it was there");
                        return done(&query.id, Err(error.to_string()));
                    }
                    _ => {}
                }
                if step.last {
                    let query = self.queries.remove(&id).expect("it was there");
                    done(&query.id, Ok(json!({ "found": query.found })));
                }
            }
            _ => {}
        }
    }

    fn on_identify(&mut self, peer: PeerId, info: identify::Info) {
        let protocols: HashSet<_> = info.protocols.iter().map(ToString::to_string).collect();
        if info.protocols.contains(&KAD) {
            for address in info.listen_addrs {
                self.swarm.behaviour_mut().kad.add_address(&peer, address);
            }
        }
        say(&json!({
            "event": "identify", "peer": peer.to_string(), "agent": info.agent_version, "protocol": info.protocol_version, "protocols": protocols
        }));
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => self.on_identify(peer_id, info),
            BehaviourEvent::Ping(ping::Event { peer, result: Ok(rtt), .. }) => {
                self.rtts.insert(peer, rtt);
            }
            BehaviourEvent::Gossip(gossipsub::Event::Message { message, .. }) => {
                let told = json!({
                    "event": "message", "topic": message.topic.to_string(), "from": message.source.map(|peer| peer.to_string()),
                    "size": message.data.len(), "hash": accept::hex(&Sha256::digest(&message.data))
                });
                say(&told);
                self.heard.push(told);
            }
            BehaviourEvent::Kad(event) => self.on_kad(event),
            BehaviourEvent::Point(rendezvous::server::Event::PeerRegistered { peer, registration }) => {
                say(&json!({ "event": "registered", "peer": peer.to_string(), "name": registration.namespace.to_string(), "ttl": registration.ttl }));
            }
            BehaviourEvent::Point(rendezvous::server::Event::PeerUnregistered { peer, namespace }) => {
                say(&json!({ "event": "unregistered", "peer": peer.to_string(), "name": namespace.to_string() }));
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(list)) => {
                for (peer, address) in list {
                    say(&json!({ "event": "discovered", "peer": peer.to_string(), "address": address.to_string() }));
                    // As the network's nodes do; the one that dialled first may have connected already.
                    let _ = self.swarm.dial(DialOpts::peer_id(peer).addresses(vec![address]).build());
                }
            }
            _ => {}
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, num_established, .. } => {
                if num_established.get() == 1 {
                    say(&json!({ "event": "connect", "peer": peer_id.to_string() }));
                }
                if let Some(id) = self.dials.remove(&connection_id) {
                    done(&id, Ok(json!({ "peer": peer_id.to_string() })));
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, cause, .. } => {
                let cause = cause.map(|error| error.to_string());
                say(&json!({ "event": "disconnect", "peer": peer_id.to_string(), "cause": cause }));
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(id) = self.dials.remove(&connection_id) {
                    done(&id, Err(error.to_string()));
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => self.swarm.add_external_address(address), // what its records announce
            _ => {}
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let key = match argument("seed") {
        Some(seed) => Keypair::ed25519_from_bytes([seed.parse::<u8>()?; 32])?,
        None => Keypair::generate_ed25519(),
    };
    let mut figures = Default::default();
    let muxer = || {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(256); // this also chooses the older Yamux, as in the network's nodes
        config
    };
    let mut swarm = libp2p::SwarmBuilder::with_existing_identity(key.clone())
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, muxer)?
        .with_behaviour(|key| behaviour(key, &mut figures))?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(30)))
        .build();
    swarm.listen_on(argument("listen").unwrap_or("/ip4/127.0.0.1/tcp/0".into()).parse()?)?;
    let mut node = Node {
        swarm,
        key,
        figures,
        dials: HashMap::new(),
        queries: HashMap::new(),
        rtts: HashMap::new(),
        heard: Vec::new(),
        oversized: false,
    };
    while node.swarm.listeners().next().is_none() {
        let event = node.swarm.select_next_some().await;
        node.on_event(event);
    }
    let me = *node.swarm.local_peer_id();
    let addresses: Vec<_> = node.swarm.listeners().map(|address| format!("{address}/p2p/{me}")).collect();
    say(&json!({ "event": "ready", "peer": me.to_string(), "addresses": addresses }));
    let mut lines = tokio::io::BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            event = node.swarm.select_next_some() => node.on_event(event),
            line = lines.next_line() => {
                let Some(line) = line? else { return Ok(()) };
                let command: Value = serde_json::from_str(&line)?;
                if command["do"] == "stop" {
                    done(&command["id"], Ok(json!({})));
                    return Ok(());
                }
                match node.run(&command) {
                    Ok(None) => {}
                    Ok(Some(answer)) => done(&command["id"], Ok(answer)),
                    Err(error) => done(&command["id"], Err(error)),
                }
            }
        }
    }
}
