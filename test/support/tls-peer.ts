// The other side of a TLS 1.3 session after its handshake, made only of node:crypto.
//
// Used by tests of the record layer, whose expected bytes must not come from the code under test. RFC 8446,
// sections 5.2, 5.3 and 7.

import { type CipherGCMTypes, createCipheriv, createDecipheriv, createHmac } from 'node:crypto';

export const SUITES = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
] as const;
export type Suite = (typeof SUITES)[number];

const ALGORITHM: Record<Suite, string> = {
  TLS_AES_128_GCM_SHA256: 'aes-128-gcm',
  TLS_AES_256_GCM_SHA384: 'aes-256-gcm',
  TLS_CHACHA20_POLY1305_SHA256: 'chacha20-poly1305',
};

/** A traffic secret for tests: as many bytes as the suite's hash gives. */
export function someSecret(suite: Suite, fill: number): Uint8Array {
  return new Uint8Array(suite.endsWith('384') ? 48 : 32).fill(fill);
}

function expand(suite: Suite, secret: Uint8Array, label: string, length: number): Buffer {
  const name = Buffer.from(`tls13 ${label}`);
  const info = Buffer.concat([Buffer.from([0, length, name.length]), name, Buffer.from([0])]);
  const round = createHmac(suite.endsWith('384') ? 'sha384' : 'sha256', secret);
  return round
    .update(info)
    .update(Buffer.from([1]))
    .digest()
    .subarray(0, length);
}

/** One direction of a session. */
export class PeerDirection {
  readonly #suite: Suite;
  #secret: Uint8Array;
  #keys: { readonly key: Buffer; readonly iv: Buffer } | undefined;
  sequence: number;

  constructor(suite: Suite, secret: Uint8Array, sequence = 0) {
    this.#suite = suite;
    this.#secret = secret;
    this.sequence = sequence;
  }

  /** The next record: content, content type, and so many zeros. */
  seal(type: number, content: Uint8Array, padding = 0): Buffer {
    return this.sealRaw(Buffer.concat([content, Buffer.from([type]), Buffer.alloc(padding)]));
  }

  /** The next record with this plaintext, which may lack a content type. */
  sealRaw(plaintext: Uint8Array): Buffer {
    const header = Buffer.from([23, 3, 3, 0, 0]);
    header.writeUInt16BE(plaintext.length + 16, 3);
    const { key, nonce } = this.#next();
    const algorithm = ALGORITHM[this.#suite] as CipherGCMTypes;
    const cipher = createCipheriv(algorithm, key, nonce, { authTagLength: 16 });
    cipher.setAAD(header, { plaintextLength: plaintext.length });
    const sealed = [cipher.update(plaintext), cipher.final()];
    return Buffer.concat([header, ...sealed, cipher.getAuthTag()]);
  }

  /** Opens the next record. @throws Error when its tag is wrong */
  open(record: Uint8Array): { type: number; content: Buffer } {
    const { key, nonce } = this.#next();
    const algorithm = ALGORITHM[this.#suite] as CipherGCMTypes;
    const cipher = createDecipheriv(algorithm, key, nonce, { authTagLength: 16 });
    cipher.setAAD(record.subarray(0, 5), { plaintextLength: record.length - 21 });
    cipher.setAuthTag(record.subarray(-16));
    const plaintext = Buffer.concat([cipher.update(record.subarray(5, -16)), cipher.final()]);
    return { type: plaintext[plaintext.length - 1], content: plaintext.subarray(0, -1) };
  }

  /** Continues with the next secret, as after a KeyUpdate. */
  update(): void {
    this.#secret = expand(this.#suite, this.#secret, 'traffic upd', this.#secret.length);
    this.#keys = undefined;
    this.sequence = 0;
  }

  #next(): { key: Buffer; nonce: Buffer } {
    this.#keys ??= {
      key: expand(this.#suite, this.#secret, 'key', this.#suite.includes('128') ? 16 : 32),
      iv: expand(this.#suite, this.#secret, 'iv', 12),
    };
    const { key, iv } = this.#keys;
    const nonce = Buffer.from(iv);
    nonce.writeBigUInt64BE(iv.readBigUInt64BE(4) ^ BigInt(this.sequence++), 4);
    return { key, nonce };
  }
}

/** Cuts a stream into its whole records. @throws Error when something is left over */
export function splitRecords(stream: Uint8Array): Uint8Array[] {
  const records: Uint8Array[] = [];
  for (let at = 0; at < stream.length; ) {
    const end = at + 5 + ((stream[at + 3] << 8) | stream[at + 4]);
    if (end > stream.length) throw new Error('the last record is not whole');
    records.push(stream.subarray(at, end));
    at = end;
  }
  return records;
}
