// The handshake against a fake server that sends the bytes of the test case.
//
// Byte 0 chooses the goal of the client, byte 1 the sizes in which the server's bytes arrive; with TLS two
// more bytes are the number of bytes in plain text. The rest are the server's bytes. The target checks the
// bytes of the client and drops them.

import { NbdServerError } from '../../../src/nbd/errors.js';
import type { ExportInfo, ListedExport } from '../../../src/nbd/export-info.js';
import {
  Handshake,
  type HandshakeEvent,
  type HandshakeGoal,
  type HandshakeOptions,
} from '../../../src/nbd/handshake/handshake.js';
import { expectedError, promise } from '../finding.js';
import { Input } from '../input.js';

const GOALS: readonly HandshakeGoal[] = [
  { kind: 'go', exportName: 'disk' },
  { kind: 'go', exportName: '' },
  { kind: 'list' },
  { kind: 'info', exportName: 'disk' },
];
const CONTEXTS = ['base:allocation', 'qemu:allocation-depth', 'qemu:dirty-bitmap:b'];
const LIST_CONTEXTS: HandshakeGoal = { kind: 'contexts', exportName: 'disk', queries: ['qemu:'] };

/** The bytes that the client may send in the clear when TLS is required: its flags, NBD_OPT_STARTTLS, NBD_OPT_ABORT. */
const CLEAR =
  /^(000000(00|01|02|03)(49484156454f50540000000500000000)?(49484156454f50540000000200000000)?)?$/;

/** Options that are sent once for each of these, with a bounded number of replies. */
const MOST_OPTIONS = 300;

interface Conversation {
  /** The bytes sent in the clear, and all bytes, in hexadecimal. */
  clear: string;
  readonly sent: string[];
  readonly events: HandshakeEvent[];
  error: string;
}

/** The options of the client, by byte 0 of a test case. */
export function optionsOf(choice: number): HandshakeOptions {
  return {
    goal: (choice & 64) === 0 ? GOALS[choice & 3] : LIST_CONTEXTS,
    tls: (choice & 4) !== 0 ? 'require' : 'disable',
    structuredReplies: (choice & 8) === 0,
    extendedHeaders: (choice & 16) === 0,
    metaContexts: (choice & 32) === 0 ? undefined : CONTEXTS,
  };
}

function feed(
  handshake: Handshake,
  bytes: Uint8Array,
  piece: number,
  take: (events: HandshakeEvent[]) => void,
): void {
  for (let at = 0; at < bytes.length; at += piece) {
    const part = Uint8Array.from(bytes.subarray(at, at + piece));
    take(handshake.receive(part));
    // The bytes belong to the caller again.
    part.fill(0x55);
  }
}

function converse(
  options: HandshakeOptions,
  clear: Uint8Array,
  secret: Uint8Array,
  piece: number,
): Conversation {
  const handshake = new Handshake(options);
  const conversation: Conversation = { clear: '', sent: [], events: [], error: '' };
  const take = (events: HandshakeEvent[]): void => {
    for (const event of events) {
      if (event.type === 'send') conversation.sent.push(Buffer.from(event.bytes).toString('hex'));
      else conversation.events.push(event);
    }
  };
  try {
    feed(handshake, clear, piece, take);
    conversation.clear = conversation.sent.join('');
    if (conversation.events.at(-1)?.type === 'starttls') {
      take(handshake.tlsStarted());
      feed(handshake, secret, piece, take);
    }
  } catch (error) {
    const expected = expectedError(error);
    if (expected instanceof NbdServerError)
      promise(expected.serverText.length <= 4096, 'a server text is too long');
    // The number of bytes that came too early depends on the cuts.
    conversation.error = `${expected.name}: ${expected.message.replace(/sent \d+ bytes before/, 'sent bytes before')}`;
    promise(handshake.receive(Uint8Array.of(0)).length === 0, 'something happens after the end');
  }
  const ended = handshake.endOfStream();
  if (ended !== undefined) expectedError(ended);
  const abortBytes = Buffer.from(handshake.abort()).toString('hex');
  if (conversation.error.startsWith('NbdProtocolError'))
    promise(abortBytes === '', 'a abortBytes after a breach');
  promise(handshake.abort().length === 0, 'two goodbyes');
  return conversation;
}

function checkInfo(info: ExportInfo): void {
  promise(info.size >= 0n && info.size < 2n ** 63n, `a size of ${info.size}`);
  promise(info.flags >= 0 && info.flags <= 0xffff, `flags ${info.flags}`);
  const sizes = info.blockSizes;
  if (sizes !== undefined) {
    const { minimum, preferred, maximum } = sizes;
    promise(
      minimum >= 1 && minimum <= 65_536 && preferred >= Math.max(512, minimum),
      'impossible block sizes',
    );
    promise((minimum & (minimum - 1)) === 0 && maximum >= preferred, 'impossible block sizes');
  }
  const ids = new Set(info.metaContexts.map(({ id }) => id));
  promise(ids.size === info.metaContexts.length && ids.size <= 1024, 'metadata contexts twice, or too many');
  for (const text of [info.description, info.canonicalName, ...info.metaContexts.map(({ name }) => name)])
    promise(
      text === undefined || (Buffer.byteLength(text) <= 4096 * 3 && !text.includes('\0')),
      'an odd string',
    );
}

function checkContexts(names: readonly string[]): void {
  promise(names.length <= 10_000, 'too many metadata contexts');
  promise(!names.some((name) => name.includes('\0') || name.length > 4096), 'an odd metadata context');
}

function checkExports(exports: readonly ListedExport[]): void {
  promise(exports.length <= 10_000, 'too many exports');
  for (const { name, info } of exports) {
    promise(!name.includes('\0') && name.length <= 4096, 'an odd export name');
    if (info !== undefined) checkInfo(info);
  }
}

function check(options: HandshakeOptions, { clear, sent, events, error }: Conversation): void {
  promise(sent.length <= MOST_OPTIONS, `the client sent ${sent.length} messages`);
  const secured = events.some(({ type }) => type === 'starttls');
  if (options.tls === 'disable') promise(!secured, 'TLS without a request for it');
  else {
    promise(
      CLEAR.test(secured ? clear : sent.join('')),
      'more than the request for TLS was sent in the clear',
    );
    promise(secured || events.length === 0, 'an end without TLS');
  }
  const ends = events.filter(({ type }) => type !== 'starttls');
  promise(ends.length <= 1, 'several ends');
  for (const end of ends) {
    if (end.type === 'listed') checkExports(end.exports);
    else if (end.type === 'contexts') checkContexts(end.names);
    else if (end.type !== 'starttls' && end.type !== 'send') checkInfo(end.info);
    const wanted = { go: 'ready', list: 'listed', info: 'described', contexts: 'contexts' }[
      options.goal.kind
    ];
    promise(end.type === wanted, `${options.goal.kind} ended with ${end.type}`);
    if (error !== '') promise(/before the first request/.test(error), `an error after the end: ${error}`);
  }
}

/**
 * The part of the result that does not depend on the cuts: an error drops earlier results of the same part.
 */
function essence({ sent, events, error }: Conversation): string {
  const plain = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? `${value}` : value);
  return error === '' ? JSON.stringify([sent.join(''), events], plain) : error;
}

export function fuzz(data: Buffer): void {
  const input = new Input(data);
  const options = optionsOf(input.u8());
  const piece = 1 + (input.u8() % 40);
  const clear = options.tls === 'require' ? input.bytes(input.u16()) : input.rest();
  const secret = input.rest();
  const whole = converse(options, clear, secret, 1 << 20);
  check(options, whole);
  for (const size of [1, piece]) {
    const pieced = converse(options, clear, secret, size);
    check(options, pieced);
    promise(
      essence(pieced) === essence(whole),
      `pieces of ${size}: ${essence(pieced)}, whole: ${essence(whole)}`,
    );
  }
}
