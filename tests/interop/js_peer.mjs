// A js-libp2p peer for interop.py, gossip.py and soak.py: listens, answers, and does what lines on its standard input say. One JSON object per line
// out. Arguments: seed=N (an identity that a restart keeps), ids=plain (message ids of the specification), publish=mesh, version=1.1.0 (the only one spoken).
import { createHash } from 'node:crypto'
import { createInterface } from 'node:readline'
import { createLibp2p } from 'libp2p'
import { tcp } from '@libp2p/tcp'
import { noise } from '@libp2p/noise'
import { yamux } from '@libp2p/yamux'
import { identify, identifyPush } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { gossipsub } from '@libp2p/gossipsub'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { multiaddr } from '@multiformats/multiaddr'

const LARGE = '/interop/large/1', ECHO = '/interop/echo/1'
const say = (object) => process.stdout.write(JSON.stringify(object) + '\n')
const argument = (name) => process.argv.find((text) => text.startsWith(name + '='))?.slice(name.length + 1)
const seed = argument('seed')
const privateKey = seed == null ? undefined : await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(Number(seed)))

// The specification's default, author and number. js-libp2p 3.3 has the author's key there instead of its id: told such an id, everybody else
// asks for a message again that they have (delivered once all the same).
function plainId (message) {
  const number = Buffer.alloc(8)
  number.writeBigUInt64BE(message.sequenceNumber)
  return Buffer.concat([message.from.toMultihash().bytes, number])
}

// The network's numbers: network-sync.md 1.
const gossip = gossipsub({
  D: 4, Dlo: 2, Dhi: 8, Dout: 1, pruneBackoff: 1000, unsubcribeBackoff: 1000, seenTTL: 60000, idontwantMinDataSize: 1000,
  globalSignaturePolicy: 'StrictSign', floodPublish: argument('publish') !== 'mesh', fallbackToFloodsub: false, emitSelf: false,
  allowPublishToZeroTopicPeers: true,
  msgIdFn: argument('ids') === 'plain' ? plainId : (message) => Buffer.from(`${message.from}${message.sequenceNumber}`)
})

// The bytes of a transfer are SHA-256 of nothing at all: a counter, so that no end needs the other's random numbers.
function * pattern (total) {
  const block = Buffer.alloc(65536)
  for (let at = 0; at < total; at += block.length) {
    block.fill(at / block.length % 251)
    yield Buffer.from(block.subarray(0, Math.min(block.length, total - at)))
  }
}

async function sendAll (stream, total) {
  const hash = createHash('sha256')
  for (const block of pattern(total)) {
    hash.update(block)
    if (!stream.send(block)) await stream.onDrain()
  }
  await stream.close()
  return hash.digest('hex')
}

async function readAll (stream) {
  const hash = createHash('sha256')
  let bytes = 0
  for await (const chunk of stream) {
    for (const piece of (typeof chunk[Symbol.iterator] === 'function' && !(chunk instanceof Uint8Array)) ? chunk : [chunk]) {
      hash.update(piece)
      bytes += piece.length
    }
  }
  return { bytes, hash: hash.digest('hex') }
}

const node = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  connectionMonitor: { enabled: false },
  ...(privateKey ? { privateKey } : {}),
  services: { identify: identify(), identifyPush: identifyPush(), ping: ping(), pubsub: gossip },
  start: false
})
const pubsub = node.services.pubsub
if (argument('version')) pubsub.protocols = [`/meshsub/${argument('version')}`]
const counted = { idontwants: 0, duplicates: 0 } // what came from others
const handleIdontwant = pubsub.handleIdontwant.bind(pubsub)
pubsub.handleIdontwant = (id, list) => {
  counted.idontwants += list.reduce((sum, { messageIDs }) => sum + messageIDs.length, 0)
  handleIdontwant(id, list)
}
const duplicateMessage = pubsub.score.duplicateMessage.bind(pubsub.score)
pubsub.score.duplicateMessage = (...all) => {
  counted.duplicates++
  duplicateMessage(...all)
}
await node.start()

await node.handle(ECHO, async (stream) => {
  try {
    for await (const chunk of stream) { if (!stream.send(chunk)) await stream.onDrain() }
    await stream.close()
  } catch (err) { stream.abort(err) }
}, { maxInboundStreams: 300, maxOutboundStreams: 300 })

await node.handle(LARGE, async (stream) => {
  try {
    const [sent, got] = await Promise.all([sendAll(stream, 64 << 20), readAll(stream)])
    say({ event: 'large', sent, got: got.hash, bytes: got.bytes })
  } catch (err) { say({ event: 'large', error: err.stack }) }
}, { maxInboundStreams: 8, maxOutboundStreams: 8 })

node.addEventListener('peer:identify', (event) => say({
  event: 'identify', peer: event.detail.peerId.toString(), agent: event.detail.agentVersion,
  protocol: event.detail.protocolVersion, protocols: event.detail.protocols, addresses: event.detail.listenAddrs.map(String)
}))
node.addEventListener('peer:connect', (event) => say({ event: 'connect', peer: event.detail.toString() }))
node.addEventListener('peer:disconnect', (event) => say({ event: 'disconnect', peer: event.detail.toString() }))
pubsub.addEventListener('message', ({ detail }) => say({
  event: 'message', topic: detail.topic, from: String(detail.from ?? ''), size: detail.data.length, hash: createHash('sha256').update(detail.data).digest('hex')
}))

// The protocol of every gossip stream, by peer and direction.
function versions () {
  const found = {}
  for (const connection of node.getConnections()) {
    for (const stream of connection.streams) {
      if (stream.protocol.startsWith('/meshsub/')) (found[connection.remotePeer] ??= {})[stream.direction] = stream.protocol
    }
  }
  return found
}

const commands = {
  dial: async ({ address }) => ({ peer: (await node.dial(multiaddr(address))).remotePeer.toString() }),
  ping: async ({ address }) => ({ ms: await node.services.ping.ping(multiaddr(address)) }),
  large: async ({ address }) => {
    const stream = await node.dialProtocol(multiaddr(address), LARGE)
    const [sent, got] = await Promise.all([sendAll(stream, 64 << 20), readAll(stream)])
    return { sent, got: got.hash, bytes: got.bytes }
  },
  many: async ({ address, count }) => {
    let good = 0
    for (let i = 0; i < count; i += 50) {
      await Promise.all(Array.from({ length: 50 }, async () => {
        const stream = await node.dialProtocol(multiaddr(address), ECHO)
        stream.send(Buffer.from('hello'))
        await stream.close()
        if ((await readAll(stream)).hash === createHash('sha256').update('hello').digest('hex')) good++
      }))
    }
    return { good }
  },
  disconnect: async ({ address }) => { await node.hangUp(multiaddr(address)); return {} },
  subscribe: async ({ topic }) => { pubsub.subscribe(topic); return {} },
  unsubscribe: async ({ topic }) => { pubsub.unsubscribe(topic); return {} },
  publish: async ({ topic, text, size }) => ({ recipients: (await pubsub.publish(topic, Buffer.alloc(size, text))).recipients.length }),
  subscribers: async ({ topic }) => ({ peers: pubsub.getSubscribers(topic).map(String), mesh: pubsub.getMeshPeers(topic) }),
  stats: async () => ({ ...counted, versions: versions() }),
  stop: async () => { await node.stop(); setImmediate(() => process.exit(0)); return {} }
}

say({ event: 'ready', peer: node.peerId.toString(), addresses: node.getMultiaddrs().map(String) })
createInterface({ input: process.stdin }).on('line', async (line) => {
  const command = JSON.parse(line)
  try {
    say({ event: 'done', id: command.id, ...(await commands[command.do](command)) })
  } catch (err) {
    say({ event: 'done', id: command.id, error: String(err?.stack ?? err) })
  }
}).on('close', () => process.exit(0))
