// A client that knows nothing of handover but its PROTOCOL.md: finds who shares under a short code's number, looks at
// them, and pings them.
// The one argument is JSON: known (addresses of nodes), number (of the short code), day (days since 1970), direct (where
// the sharer can be dialled: js-libp2p can't identify a peer over a circuit).
import { setTimeout as sleep } from 'node:timers/promises'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { multiaddr } from '@multiformats/multiaddr'
import { argon2id } from '@noble/hashes/argon2.js'
import { CID } from 'multiformats/cid'
import { create } from 'multiformats/hashes/digest'
import { endWhenAsked, KAD, makeNode, tell } from './libp2p.mjs'

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
  // Still there.
  tell('pinged', { millis: await node.services.ping.ping(id) })
}
tell('done', { found: found.length })
process.exit(0)
