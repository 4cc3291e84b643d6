// A client that knows nothing of handover but its PROTOCOL.md: finds who shares under a short code's number, looks at
// them, pings them, and knocks.
// The one argument is JSON: known (addresses of nodes), number (of the short code), day (days since 1970), direct (where
// the sharer can be dialled: js-libp2p can't identify a peer over a circuit).
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { byteStream } from '@libp2p/utils'
import { multiaddr } from '@multiformats/multiaddr'
import { argon2id } from '@noble/hashes/argon2.js'
import { CID } from 'multiformats/cid'
import { create } from 'multiformats/hashes/digest'
import { endWhenAsked, KAD, makeNode, tell } from './libp2p.mjs'

const LINK = '/handover/link/1'
const SHA256 = 0x12
const RAW = 0x55
const TRIES = 20

/** §14: the meeting point of a number on a day. */
function meetingPoint (number, day) {
  const salt = `handover/1 meeting point, day ${day}`
  return argon2id(String(number), salt, { t: 2, m: 32 * 1024, p: 1, dkLen: 32, version: 0x13 })
}

/** Everybody whom the DHT has a record of, with addresses. */
async function providers (node, point) {
  const key = CID.createV1(RAW, create(SHA256, point))
  const found = new Map()
  for await (const event of node.services.dht.findProviders(key)) {
    for (const peer of event.providers ?? []) {
      const before = found.get(peer.id.toString()) ?? { id: peer.id, multiaddrs: [] }
      before.multiaddrs.push(...peer.multiaddrs)
      found.set(peer.id.toString(), before)
    }
  }
  return [...found.values()]
}

const text = (value) => Buffer.concat([Buffer.from([0x60 + value.length]), Buffer.from(value)])
const bytes = (value) => Buffer.concat([Buffer.from([0x58, value.length]), value])
const u32 = (value) => {
  const buffer = Buffer.alloc(4)
  buffer.writeUInt32BE(value)
  return buffer
}

/** §5.1: {"v": version, "t": tag, "n": the first Noise message}. */
function knock (version) {
  const [tag, noise] = [randomBytes(16), randomBytes(48)]
  return Buffer.concat([
    Buffer.from([0xa3]), text('v'), Buffer.from([version]),
    text('t'), Buffer.from([0x50]), tag, text('n'), bytes(noise)
  ])
}

/** §5.2: {"v": 1, "c": number, "p": point}; the point is Ed25519's base point, by side A. */
function ask (number) {
  const point = Buffer.from([0x41, 0x58, ...Array(31).fill(0x66)])
  return Buffer.concat([
    Buffer.from([0xa3]), text('v'), Buffer.from([1]),
    text('c'), Buffer.from([0x1a]), u32(number), text('p'), bytes(point)
  ])
}

/** §5.2: {"n": the first Noise message}. */
const proof = () => Buffer.concat([Buffer.from([0xa1]), text('n'), bytes(randomBytes(48))])

/** The reason in {"refused": reason}; the whole in hexadecimal if it is something else. */
function refusal (body) {
  const before = Buffer.concat([Buffer.from([0xa1]), text('refused')])
  const reason = body.subarray(before.length + 1).toString()
  const is = body.equals(Buffer.concat([before, text(reason)]))
  return is ? reason : body.toString('hex')
}

/** §4: says each of these on a link of its own, and takes the answer to each; the last one, and what came then. */
async function talk (connection, bodies) {
  const stream = await connection.newStream(LINK)
  const link = byteStream(stream)
  const options = { signal: AbortSignal.timeout(15000) }
  let answer
  for (const body of bodies) {
    await link.write(Buffer.concat([u32(body.length), body]))
    const header = await link.read({ bytes: 4, ...options })
    const length = Buffer.from(header.subarray()).readUInt32BE(0)
    answer = await link.read({ bytes: length, ...options })
  }
  const then = await link.read(options).then((more) => more == null ? 'closed' : 'more', String)
  await stream.close(options)
  return { reason: refusal(Buffer.from(answer.subarray())), then }
}

const { known, number, day, direct } = JSON.parse(process.argv[2])
endWhenAsked()
const dht = kadDHT({
  protocol: KAD, clientMode: true, peerInfoMapper: passthroughMapper, allowQueryWithZeroPeers: true
})
// It identifies each node once, when it says so.
const node = await makeNode({ services: { dht, identify: identify({ runOnConnectionOpen: false }) } })
for (const address of known) {
  const connection = await node.dial(multiaddr(address), { signal: AbortSignal.timeout(5000) })
  await node.services.identify.identify(connection)
}
const point = meetingPoint(number, day)
let found = []
for (let tries = 0; found.length === 0 && tries < TRIES; tries++) {
  if (tries > 0) await sleep(250)
  found = await providers(node, point)
}
for (const { id, multiaddrs } of found) {
  const addresses = [...new Set(multiaddrs.map(String))]
  tell('provider', { peer: id.toString(), addresses })
  const connection = await node.dial(multiaddr(`${direct}/p2p/${id}`))
  const { agentVersion, protocolVersion, protocols } = await node.services.identify.identify(connection)
  tell('identified', { agent: agentVersion, protocol: protocolVersion, protocols })
  tell('pinged', { millis: await node.services.ping.ping(id) })
  const knocks = {
    stranger: [knock(1)], past: [knock(0)], future: [knock(2)], nonsense: [randomBytes(64)], guess: [ask(number), proof()]
  }
  for (const [what, bodies] of Object.entries(knocks)) {
    tell('answered', { knock: what, ...await talk(connection, bodies) })
  }
  // Still there.
  tell('pinged', { millis: await node.services.ping.ping(id) })
}
tell('done', { found: found.length })
process.exit(0)
