// A socket whose owner may receive into its own memory. Until it has such an owner, it is a stream like any other.
//
// Made by dial.ts, tcp.ts and command.ts. Node reads straight into the memory that the owner names, so that large data
// need no copy.

import { type OnReadOpts, Socket, type SocketConstructorOpts } from 'node:net';

/** Bytes of one read while the socket is a stream: messages of a handshake are short. */
const STREAM_READ = 8192;

/** The owner of a socket's bytes. */
export interface ByteReceiver {
  /** Memory for the next bytes, at least one. It is in use until the next call, or until the socket is destroyed. */
  memory(): Uint8Array;
  /** The first `count` bytes of that memory, or of `bytes`, have arrived. */
  received(count: number, bytes: Uint8Array): void;
}

/** Where the bytes of a socket go. Node asks for memory before the constructor of Socket returns. */
class Reception {
  receiver: ByteReceiver | undefined;
  push: ((bytes: Buffer) => boolean) | undefined;
  readonly #own = Buffer.allocUnsafe(STREAM_READ);

  memory(): Uint8Array {
    return this.receiver === undefined ? this.#own : this.receiver.memory();
  }

  /** @returns whether to continue reading */
  arrived(count: number, bytes: Uint8Array): boolean {
    if (this.receiver === undefined) return this.push?.(Buffer.from(bytes.subarray(0, count))) ?? true;
    this.receiver.received(count, bytes);
    return true;
  }
}

/** See the file's head. */
export class ReceivingSocket extends Socket {
  readonly #reception: Reception;

  constructor(options: SocketConstructorOpts = {}) {
    const reception = new Reception();
    // Node's types have this option for `connect` only.
    const whole: SocketConstructorOpts & { onread: OnReadOpts } = {
      ...options,
      onread: {
        buffer: () => reception.memory(),
        callback: (count, bytes) => reception.arrived(count, bytes),
      },
    };
    super(whole);
    this.#reception = reception;
    reception.push = (bytes) => this.push(bytes);
  }

  /** Gives all further bytes to `receiver`, and begins to read. The stream still reports its end and errors, and writes. */
  receive(receiver: ByteReceiver): void {
    this.#reception.receiver = receiver;
    for (let early: Buffer | null = this.read(); early !== null; early = this.read())
      receiver.received(early.length, early);
    this.resume();
  }
}
