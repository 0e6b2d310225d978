// A js-libp2p peer for interop.py: listens, answers, and does what lines on its standard input say. One JSON object per line out.
import { createHash } from 'node:crypto'
import { createInterface } from 'node:readline'
import { createLibp2p } from 'libp2p'
import { tcp } from '@libp2p/tcp'
import { noise } from '@libp2p/noise'
import { yamux } from '@libp2p/yamux'
import { identify, identifyPush } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { gossipsub } from '@libp2p/gossipsub'
import { multiaddr } from '@multiformats/multiaddr'

const LARGE = '/interop/large/1', ECHO = '/interop/echo/1'
const say = (object) => process.stdout.write(JSON.stringify(object) + '\n')
const wantsGossip = process.argv.includes('--gossip')

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
  services: {
    identify: identify(), identifyPush: identifyPush(), ping: ping(),
    ...(wantsGossip ? { pubsub: gossipsub({ emitSelf: false, allowPublishToZeroTopicPeers: true, D: 4, Dlo: 2, Dhi: 8 }) } : {})
  }
})

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
if (wantsGossip) {
  node.services.pubsub.addEventListener('message', (event) => say({
    event: 'message', topic: event.detail.topic, data: Buffer.from(event.detail.data).toString('hex'), from: String(event.detail.from ?? '')
  }))
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
  subscribe: async ({ topic }) => { node.services.pubsub.subscribe(topic); return {} },
  publish: async ({ topic, data }) => ({ recipients: (await node.services.pubsub.publish(topic, Buffer.from(data, 'hex'))).recipients.length }),
  subscribers: async ({ topic }) => ({ peers: node.services.pubsub.getSubscribers(topic).map(String), mesh: node.services.pubsub.getMeshPeers(topic) }),
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
