// A DHT server that answers every question with peers that do not exist, at addresses where nobody is, and takes every
// record without keeping it.
import { randomBytes } from 'node:crypto'
import { lpStream } from '@libp2p/utils'
import { multiaddr } from '@multiformats/multiaddr'
import { KAD } from './libp2p.mjs'

// Fields of the DHT's messages, as its specification numbers them.
const [TYPE, KEY, CLOSER, PROVIDERS] = [1, 2, 8, 9]
const [PEER, ADDRESS] = [1, 2]
const GET_PROVIDERS = 3
const [NUMBER, BYTES] = [0, 2]

const varint = (value) => {
  const bytes = []
  for (; value > 127; value >>>= 7) bytes.push((value & 127) | 128)
  return [...bytes, value]
}
const number = (field, value) => [...varint((field << 3) | NUMBER), ...varint(value)]
const bytes = (field, value) => [...varint((field << 3) | BYTES), ...varint(value.length), ...value]

/** The two fields of a question that its answer repeats. */
function question (message) {
  const asked = { type: 0, key: [] }
  let at = 0
  const read = () => {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = message[at++]
      value |= (byte & 127) << shift
      if (byte < 128) return value
    }
  }
  while (at < message.length) {
    const tag = read()
    const value = read()
    if ((tag & 7) === NUMBER) {
      if (tag >> 3 === TYPE) asked.type = value
      continue
    }
    if (tag >> 3 === KEY) asked.key = message.subarray(at, at + value)
    at += value
  }
  return asked
}

/** A peer that does not exist: its id is the hash of no key. */
function nobody (nth) {
  const SHA256 = [0x12, 32]
  const address = multiaddr(`/ip4/11.9.9.${nth}/tcp/4001`)
  return [...bytes(PEER, [...SHA256, ...randomBytes(32)]), ...bytes(ADDRESS, address.bytes)]
}

/** Has this node answer so. */
export async function lie (node) {
  await node.handle(KAD, async (stream) => {
    const framed = lpStream(stream)
    try {
      for (;;) {
        const { type, key } = question((await framed.read()).subarray())
        const peers = [1, 2, 3, 4].map(nobody)
        const answer = [
          ...number(TYPE, type), ...bytes(KEY, key), ...peers.flatMap((peer) => bytes(CLOSER, peer)),
          ...(type === GET_PROVIDERS ? peers.flatMap((peer) => bytes(PROVIDERS, peer)) : [])
        ]
        await framed.write(Uint8Array.from(answer))
      }
    } catch {
      stream.abort(new Error('the other side is gone'))
    }
  })
}
