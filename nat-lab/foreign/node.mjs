// A DHT server and circuit relay by js-libp2p, with its default limits.
// The one argument is JSON: listen, identity, known (addresses of nodes), reservations (how many at most), lies.
import { autoNAT } from '@libp2p/autonat'
import { circuitRelayServer } from '@libp2p/circuit-relay-v2'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { multiaddr } from '@multiformats/multiaddr'
import { endWhenAsked, KAD, makeNode, tell } from './libp2p.mjs'
import { lie } from './lies.mjs'

const order = JSON.parse(process.argv[2])
const relay = order.reservations == null ? {} : { reservations: { maxReservations: order.reservations } }
const dht = kadDHT({
  protocol: KAD,
  clientMode: false,
  // The default mapper takes private addresses out, and loopback is where tests run.
  peerInfoMapper: passthroughMapper,
  allowQueryWithZeroPeers: true
})
const services = { autonat: autoNAT(), relay: circuitRelayServer(relay), ...(order.lies ? {} : { dht }) }
endWhenAsked()
const node = await makeNode({ identity: order.identity, listen: order.listen, services })
if (order.lies) await lie(node)
for (const address of order.known ?? []) {
  // One that hangs or is dead must not keep this one from coming up.
  await node.dial(multiaddr(address), { signal: AbortSignal.timeout(2000) }).catch(() => {})
}
for (const address of node.getMultiaddrs()) tell('node_address', { address: address.toString() })
tell('ready')
