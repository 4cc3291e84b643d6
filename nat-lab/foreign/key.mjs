// Writes an ECDSA identity as go-libp2p keeps one: the kind of key, and the key as SEC 1 has it, in a protobuf.
// The one argument is the file.
import { generateKeyPairSync } from 'node:crypto'
import { writeFileSync } from 'node:fs'

const ECDSA = 3
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const key = privateKey.export({ type: 'sec1', format: 'der' })
// A length below 128 is one byte, and a P-256 key is 121 bytes long.
writeFileSync(process.argv[2], Uint8Array.from([8, ECDSA, 18, key.length, ...key]), { mode: 0o600 })
