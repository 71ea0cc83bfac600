// Drives a Handshake with a script of a server's bytes, whole and byte by byte.
//
// Used by the handshake's tests. The tests write the server's bytes; the only encoding here is the frame
// around a reply to an option, written out by hand.

import { expect } from 'vitest';
import type { NbdError } from '../../src/nbd/errors.js';
import { Handshake, type HandshakeEvent, type HandshakeOptions } from '../../src/nbd/handshake/handshake.js';
import { hex, toHex } from './hex.js';

/** One event: bytes of the server, or the upgrade to TLS by the driver. */
export type ScriptStep = Uint8Array | 'tls';

/** The result of a script. */
export interface Conversation {
  /** The client's bytes, one entry for each step of the script (greeting included). */
  readonly sent: readonly string[];
  /** Everything except the sent bytes. */
  readonly events: readonly HandshakeEvent[];
  readonly error: NbdError | undefined;
  /** The results of abort() and endOfStream() afterwards. */
  readonly abortBytes: string;
  readonly ended: string | undefined;
}

type Cut = (bytes: Uint8Array) => Uint8Array[];

function play(options: HandshakeOptions, script: readonly ScriptStep[], cut: Cut): Conversation {
  const handshake = new Handshake(options);
  const sent: string[] = [];
  const events: HandshakeEvent[] = [];
  let error: NbdError | undefined;
  const take = (happened: readonly HandshakeEvent[]): string => {
    events.push(...happened.filter(({ type }) => type !== 'send'));
    return happened.map((event) => (event.type === 'send' ? toHex(event.bytes) : '')).join('');
  };
  try {
    for (const step of script) {
      if (step === 'tls') {
        expect(events.at(-1)?.type).toBe('starttls');
        sent.push(take(handshake.tlsStarted()));
      } else
        sent.push(
          cut(step)
            .map((bytes) => take(handshake.receive(bytes)))
            .join(''),
        );
    }
  } catch (thrown) {
    error = thrown as NbdError;
  }
  const ended = handshake.endOfStream()?.message;
  return { sent, events, error, abortBytes: toHex(handshake.abort()), ended };
}

/** Plays a script whole and byte by byte, checks that both have the same result, and returns it. */
export function converse(options: HandshakeOptions, script: readonly ScriptStep[]): Conversation {
  const whole = play(options, script, (bytes) => [bytes]);
  const bytewise = play(options, script, (bytes) => Array.from(bytes, (byte) => Uint8Array.of(byte)));
  expect(bytewise.error?.name).toBe(whole.error?.name);
  expect(bytewise.abortBytes).toBe(whole.abortBytes);
  if (whole.error === undefined) expect(bytewise).toEqual(whole);
  else
    expect(`${bytewise.sent.join('')} ${bytewise.error?.message}`).toContain(
      whole.error.message.replace(/\d+ bytes before.*/, ''),
    );
  return whole;
}

/** The frame of a reply to an option (proto.md, "Fixed newstyle negotiation"). */
export function optionReply(
  option: string,
  replyType: string,
  data: Uint8Array = new Uint8Array(0),
): Uint8Array {
  const length = data.length.toString(16).padStart(8, '0');
  return hex`
    0003e889045565a9                  | NBD_REP_MAGIC
    ${Buffer.from(option, 'hex')}     | option
    ${Buffer.from(replyType, 'hex')}  | reply type
    ${Buffer.from(length, 'hex')}     | length
    ${data}                           | data
  `;
}

/** The greeting of a fixed newstyle server that can leave out the zeroes. */
export const FIXED_NEWSTYLE = hex`
  4e42444d41474943 | NBDMAGIC
  49484156454f5054 | IHAVEOPT
  0003             | NBD_FLAG_FIXED_NEWSTYLE, NBD_FLAG_NO_ZEROES
`;

/** Options, encoded as in requests and replies. */
export const OPT = {
  EXPORT_NAME: '00000001',
  ABORT: '00000002',
  LIST: '00000003',
  STARTTLS: '00000005',
  INFO: '00000006',
  GO: '00000007',
  STRUCTURED_REPLY: '00000008',
  LIST_META_CONTEXT: '00000009',
  SET_META_CONTEXT: '0000000a',
  EXTENDED_HEADERS: '0000000b',
} as const;

/** Reply types, encoded as on the wire. */
export const REP = {
  ACK: '00000001',
  SERVER: '00000002',
  INFO: '00000003',
  META_CONTEXT: '00000004',
  ERR_UNSUP: '80000001',
  ERR_POLICY: '80000002',
  ERR_INVALID: '80000003',
  ERR_TLS_REQD: '80000005',
  ERR_UNKNOWN: '80000006',
  ERR_SHUTDOWN: '80000007',
  ERR_BLOCK_SIZE_REQD: '80000008',
  ERR_TOO_BIG: '80000009',
} as const;

/** NBD_INFO_EXPORT of one mebibyte, with NBD_FLAG_HAS_FLAGS and NBD_FLAG_SEND_FLUSH. */
export const INFO_EXPORT = hex`
  0000             | NBD_INFO_EXPORT
  0000000000100000 | size
  0005             | transmission flags
`;

/** A request of the client's: IHAVEOPT, option, length and data, in hexadecimal. */
export function optionRequest(option: string, data = ''): string {
  return `49484156454f5054${option}${(data.length / 2).toString(16).padStart(8, '0')}${data}`;
}
