// The receiving half of a TLS 1.3 session against a fake server with the keys, or an attacker in between
// without them.
//
// Byte 0 chooses the cipher suite, whether the rest is raw ciphertext or instructions for records, and the
// room of the reader. Only content that was sealed as application data may come out, in its order, and
// nothing after the first changed record.

import { addressOf, libc } from '../../../src/linux/libc.js';
import { TlsError } from '../../../src/tls/errors.js';
import { RECEIVE_BUFFER, RecordReceiver } from '../../../src/tls/record-receiver.js';
import * as rfc8448 from '../../../test/support/rfc8448.js';
import { PeerDirection, SUITES, type Suite, someSecret } from '../../../test/support/tls-peer.js';
import { promise } from '../finding.js';
import { Input } from '../input.js';

const [ALERT, HANDSHAKE, DATA] = [21, 22, 23];
const ROOMS = [1, 7, 512, 20_000, 131_072];
/** Bytes around the reader's room, which must not change. */
const GUARD = Buffer.alloc(16, 0xa7);
const LARGEST_PIECE = 65_536;
const MOST_BYTES = 40_000;
const MOST_RECORDS = 16;
/** Maximum number of parts of one stream: more would take too long and find no other cuts. */
const MOST_PIECES = 400;

// Memory outside of V8's heap is expensive to allocate, so all test cases use the same.
const fixed = (length: number): Buffer => Buffer.from(new ArrayBuffer(length));
const MEMORY = fixed(131_072 + 2 * GUARD.length);
const ROOM_ADDRESS = addressOf(MEMORY) + GUARD.length;
const PIECE = fixed(LARGEST_PIECE);
const PIECE_ADDRESS = addressOf(PIECE);
/** The receiver's memory; overwritten for each test case, so that nothing remains of the previous one. */
const RECEIVED = fixed(RECEIVE_BUFFER);

/** A stream of records, and the most that its reader may get. */
interface Session {
  readonly suite: Suite;
  readonly secret: Uint8Array;
  readonly stream: Uint8Array;
  readonly data: Uint8Array;
}

/** One record by instruction; `said` receives its content, and undefined from the first bad record on. */
function record(
  input: Input,
  peer: PeerDirection,
  said: (data: Uint8Array) => void,
  spoil: () => void,
): Uint8Array {
  const choice = input.u8();
  const count = (choice & 8) === 0 ? input.u8() : (input.u16() * 3) % 16_500;
  const content = new Uint8Array(count).fill(input.u8());
  const padding = (choice & 16) === 0 ? 0 : input.u8();
  switch (choice & 7) {
    case 0:
    case 1:
      said(content);
      return peer.seal(DATA, content, padding);
    case 2:
      return peer.seal(
        HANDSHAKE,
        Uint8Array.of(4, 0, 0, Math.min(count, 255), ...content.subarray(0, 255)),
        padding,
      );
    case 3: {
      const sealed = peer.seal(HANDSHAKE, Uint8Array.of(24, 0, 0, 1, input.u8() & 1), padding);
      peer.update();
      return sealed;
    }
    case 4:
      return peer.seal(ALERT, Uint8Array.of(1, input.u8()), padding);
    case 5: {
      // Without a content type the last byte that is not 0 is it.
      const plaintext = Uint8Array.of(
        ...input.bytes(choice >> 5),
        input.pick([HANDSHAKE, ALERT, DATA, 20, 24, 0]),
      );
      const type = plaintext.findLastIndex((byte) => byte !== 0);
      if (plaintext[type] === DATA) said(plaintext.slice(0, type));
      return peer.sealRaw(Uint8Array.of(...plaintext, ...new Uint8Array(padding)));
    }
    case 6: {
      spoil();
      const sealed = peer.seal(DATA, content, padding);
      sealed[input.u16() % sealed.length] ^= 1 << (input.u8() & 7);
      return sealed;
    }
    default: {
      const strange = input.bytes(choice >> 3);
      if (strange.length > 0) spoil();
      return strange;
    }
  }
}

function makeSession(input: Input, suite: Suite): Session {
  const secret = someSecret(suite, 0x5a);
  const peer = new PeerDirection(suite, secret);
  const [parts, data]: Uint8Array[][] = [[], []];
  let spoilt = false;
  for (let size = 0; input.left > 0 && size < MOST_BYTES && parts.length < MOST_RECORDS; ) {
    const said = (content: Uint8Array): void => {
      if (!spoilt) data.push(content);
    };
    const spoil = (): void => {
      spoilt = true;
    };
    const part = record(input, peer, said, spoil);
    parts.push(part);
    size += part.length;
  }
  return { suite, secret, stream: Buffer.concat(parts), data: Buffer.concat(data) };
}

/** Raw ciphertext: without the keys only the recorded data are valid. */
function rawSession(stream: Uint8Array): Session {
  const { SERVER_SECRET: secret } = rfc8448;
  return { suite: 'TLS_AES_128_GCM_SHA256', secret, stream, data: rfc8448.DATA };
}

interface Outcome {
  readonly got: Buffer;
  readonly failure: string;
}

/** Takes all available content; more than the session's data is a finding. */
function drain(receiver: RecordReceiver, room: number, got: Buffer, length: number): number {
  for (let total = length; ; ) {
    GUARD.copy(MEMORY, 0);
    GUARD.copy(MEMORY, GUARD.length + room);
    const count = receiver.take(ROOM_ADDRESS, room);
    promise(count >= 0 && count <= room, `take gave ${count} of ${room}`);
    const isWhole =
      MEMORY.compare(GUARD, 0, GUARD.length, 0, GUARD.length) === 0 &&
      MEMORY.compare(GUARD, 0, GUARD.length, GUARD.length + room, 2 * GUARD.length + room) === 0;
    promise(isWhole, 'bytes were placed outside of the room');
    promise(total + count <= got.length, 'more came out than was sealed');
    MEMORY.copy(got, total, GUARD.length, GUARD.length + count);
    total += count;
    if (count < room) return total;
  }
}

function hear({ suite, secret, stream, data }: Session, piece: number, room: number): Outcome {
  RECEIVED.fill(0x5e);
  const receiver = new RecordReceiver(suite, { secret, sequence: 0 }, new Uint8Array(0), RECEIVED);
  const got = Buffer.alloc(data.length);
  let length = 0;
  let failure = '';
  try {
    for (let at = 0; at < stream.length && !receiver.ended; at += piece) {
      const part = stream.subarray(at, at + piece);
      PIECE.set(part);
      const to = receiver.makeSpace();
      promise(receiver.space >= part.length, 'no room is left for ciphertext');
      libc.memcpy(to, PIECE_ADDRESS, part.length);
      receiver.filled(part.length);
      length = drain(receiver, room, got, length);
    }
  } catch (error) {
    if (!(error instanceof TlsError)) throw error;
    failure = error.message;
    promise(!/[\p{Cc}]/u.test(failure) && failure.length < 300, 'a message is no printable line');
  } finally {
    receiver.close();
  }
  return { got: got.subarray(0, length), failure };
}

export function fuzz(data: Buffer): void {
  const input = new Input(data);
  const choice = input.u8();
  const session =
    (choice & 4) === 0 ? makeSession(input, SUITES[(choice & 3) % 3]) : rawSession(input.rest());
  const wanted = ROOMS[(choice >> 3) % ROOMS.length];
  const room = session.stream.length < 500 ? wanted : Math.max(wanted, 512);
  const piece = Math.max(1 + (choice >> 5) * 300, Math.ceil(session.stream.length / MOST_PIECES));
  const outcomes = [hear(session, LARGEST_PIECE, room), hear(session, piece, room)];
  if (session.stream.length < 150) outcomes.push(hear(session, 1, 512));
  for (const { got, failure } of outcomes) {
    promise(
      Buffer.compare(got, session.data.subarray(0, got.length)) === 0,
      'other bytes came out than were sealed',
    );
    promise(failure === outcomes[0].failure, `"${failure}" or "${outcomes[0].failure}", by the pieces`);
    // A failing take returns none of its bytes, so their number may differ by the room.
    if (failure === '') promise(Buffer.compare(got, outcomes[0].got) === 0, 'the data depend on the pieces');
  }
}
