//! The signed record of network-sync.md 10: "this peer holds the blob". Borsh of peer id, size, public key, signature.
use libp2p::identity::{Keypair, PublicKey};
use libp2p::PeerId;

const DOMAIN: &[u8] = b"calimero:dht:blob-provider:v1";

fn signed(key: &[u8], peer: &[u8], size: u64) -> Vec<u8> {
    let mut message = DOMAIN.to_vec();
    for part in [key, peer] {
        message.extend((part.len() as u64).to_le_bytes());
        message.extend(part);
    }
    message.extend(size.to_le_bytes());
    message
}

fn put(value: &mut Vec<u8>, part: &[u8]) {
    value.extend((part.len() as u32).to_le_bytes());
    value.extend(part);
}

fn take<'a>(value: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (part, rest) = value.split_at_checked(len)?;
    *value = rest;
    Some(part)
}

fn take_part<'a>(value: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = u32::from_le_bytes(take(value, 4)?.try_into().ok()?);
    take(value, len as usize)
}

pub fn sign(identity: &Keypair, key: &[u8], size: u64) -> Vec<u8> {
    let peer = identity.public().to_peer_id().to_bytes();
    let mut value = Vec::new();
    put(&mut value, &peer);
    value.extend(size.to_le_bytes());
    put(&mut value, &identity.public().encode_protobuf());
    put(&mut value, &identity.sign(&signed(key, &peer, size)).expect("an Ed25519 key signs"));
    value
}

/// Who says so, once it is proven.
pub fn verify(key: &[u8], mut value: &[u8]) -> Option<(PeerId, u64)> {
    if value.len() > 256 {
        return None;
    }
    let peer = PeerId::from_bytes(take_part(&mut value)?).ok()?;
    let size = u64::from_le_bytes(take(&mut value, 8)?.try_into().ok()?);
    let public = PublicKey::try_decode_protobuf(take_part(&mut value)?).ok()?;
    let signature = take_part(&mut value)?;
    let good = value.is_empty() && public.to_peer_id() == peer && public.verify(&signed(key, &peer.to_bytes(), size), signature);
    good.then_some((peer, size))
}
