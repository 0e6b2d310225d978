//! The streams of the tests, accepted one by one however many come at once (libp2p-stream drops those that come while one is waiting), and what is
//! said on them.
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::upgrade::{DeniedUpgrade, UpgradeInfo};
use libp2p::core::{transport::PortUse, Endpoint};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour, Stream, SubstreamProtocol,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{InboundUpgrade, Multiaddr, PeerId, StreamProtocol};
use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use std::convert::Infallible;
use std::future::{ready, Ready};
use std::task::{Context, Poll};

pub const LARGE: StreamProtocol = StreamProtocol::new("/interop/large/1");
pub const ECHO: StreamProtocol = StreamProtocol::new("/interop/echo/1");
const TOTAL: usize = 64 << 20;
const BLOCK: usize = 64 << 10;

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The pattern both ways at once: a counter, so that no end needs the other's random numbers.
pub async fn transfer(stream: Stream) -> Result<Value, std::io::Error> {
    let (mut reader, mut writer) = stream.split();
    let send = async {
        let mut hash = Sha256::new();
        for number in 0..TOTAL / BLOCK {
            let block = vec![(number % 251) as u8; BLOCK];
            hash.update(&block);
            writer.write_all(&block).await?;
        }
        writer.close().await?;
        Ok::<_, std::io::Error>(hex(&hash.finalize()))
    };
    let receive = async {
        let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; BLOCK]);
        loop {
            match reader.read(&mut buffer).await? {
                0 => return Ok::<_, std::io::Error>((bytes, hex(&hash.finalize()))),
                n => {
                    hash.update(&buffer[..n]);
                    bytes += n;
                }
            }
        }
    };
    let (sent, (bytes, got)) = futures::try_join!(send, receive)?;
    Ok(json!({ "sent": sent, "got": got, "bytes": bytes }))
}

pub async fn ask_echo(mut stream: Stream) -> Result<bool, std::io::Error> {
    let mut answer = Vec::new();
    stream.write_all(b"hello").await?;
    stream.close().await?;
    stream.read_to_end(&mut answer).await?;
    Ok(answer == b"hello")
}

async fn serve(stream: Stream, protocol: StreamProtocol) {
    if protocol == LARGE {
        let mut told = transfer(stream).await.unwrap_or_else(|error| json!({ "error": error.to_string() }));
        told["event"] = "large".into();
        super::say(&told);
    } else {
        let (reader, mut writer) = stream.split();
        let _ = futures::io::copy(reader, &mut writer).await; // a stream that was reset answers nothing
        let _ = writer.close().await;
    }
}

/// The protocols offered; the stream itself and which of them it is for.
pub struct Offer;
impl UpgradeInfo for Offer {
    type Info = StreamProtocol;
    type InfoIter = [StreamProtocol; 2];
    fn protocol_info(&self) -> Self::InfoIter {
        [LARGE, ECHO]
    }
}
impl InboundUpgrade<Stream> for Offer {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;
    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

pub struct Handler;
impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Offer;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();
    fn listen_protocol(&self) -> SubstreamProtocol<Offer> {
        SubstreamProtocol::new(Offer, ())
    }
    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<DeniedUpgrade, (), Infallible>> {
        Poll::Pending
    }
    fn on_behaviour_event(&mut self, never: Infallible) {
        match never {}
    }
    fn on_connection_event(&mut self, event: ConnectionEvent<Offer, DeniedUpgrade>) {
        if let ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: (stream, name), .. }) = event {
            tokio::spawn(serve(stream, name));
        }
    }
}

pub struct Behaviour;
impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;
    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler)
    }
    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler)
    }
    fn on_swarm_event(&mut self, _: FromSwarm) {}
    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, never: THandlerOutEvent<Self>) {
        match never {}
    }
    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
