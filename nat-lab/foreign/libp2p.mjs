// How a js-libp2p node of the foreign world is made, and how it tells the lab about itself.
import './before.mjs'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { identify, identifyPush } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { createLibp2p } from 'libp2p'

export const KAD = '/ipfs/kad/1.0.0'

// Of ECDSA keys js-libp2p makes no peer ids.
const KEYS = {
  rsa: () => generateKeyPair('RSA', 2048),
  secp256k1: () => generateKeyPair('secp256k1'),
  ed25519: () => generateKeyPair('Ed25519')
}

/** A node with a fresh identity of this kind, the transports TCP and WebSocket, and these services besides the usual. */
export async function makeNode ({ identity = 'ed25519', listen = [], services = {} }) {
  return createLibp2p({
    privateKey: await KEYS[identity](),
    // Of addresses that count as public it would tell nobody before somebody has confirmed them.
    addresses: { listen, announce: listen },
    transports: [tcp(), webSockets()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    // Addresses of the lab count as public; on loopback nodes may be dialled too.
    connectionGater: { denyDialMultiaddr: () => false },
    services: { identify: identify(), identifyPush: identifyPush(), ping: ping(), ...services }
  })
}

/** One line of JSON for the lab. */
export function tell (event, fields = {}) {
  process.stdout.write(JSON.stringify({ event, ...fields }) + '\n')
}

/** Ends when the lab asks for it. */
export function endWhenAsked () {
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0))
}
