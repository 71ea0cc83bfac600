// A channel over TLS 1.3, for a session whose handshake the main thread has done.
//
// The record layer is in src/tls. When the peer violates TLS, `receive` sends the alert and throws TlsError.

import { libc } from '../../linux/libc.js';
import { dropOnClose, MSG_DONTWAIT, MSG_NOSIGNAL, retransmissions } from '../../linux/socket.js';
import { CLOSE_NOTIFY } from '../../tls/constants.js';
import { TlsError } from '../../tls/errors.js';
import { RecordReceiver } from '../../tls/record-receiver.js';
import { RecordSender } from '../../tls/record-sender.js';
import type { TlsState } from '../../tls/take-over.js';
import type { Channel, Peer } from './channel.js';

/** See the file's head. */
export class TlsChannel implements Channel {
  readonly descriptor: number;
  readonly spliceable = false;
  readonly zeroCopy = undefined;
  readonly peer: Peer | undefined;
  readonly #receiver: RecordReceiver;
  readonly #sender: RecordSender;

  constructor(descriptor: number, { suite, receiving, sending, begun }: TlsState, peer?: Peer) {
    this.descriptor = descriptor;
    this.peer = peer;
    this.#receiver = new RecordReceiver(suite, receiving, begun);
    this.#sender = new RecordSender(suite, sending);
  }

  get buffered(): boolean {
    return this.#receiver.buffered;
  }

  get unsent(): boolean {
    return !this.#sender.idle;
  }

  receive(address: number, length: number): number {
    const receiver = this.#receiver;
    for (;;) {
      const got = this.#take(address, length);
      if (got > 0 || receiver.ended) return got;
      const space = receiver.makeSpace();
      const count = libc.recv(this.descriptor, space, receiver.space, MSG_DONTWAIT);
      if (count <= 0) return count;
      receiver.filled(count);
    }
  }

  send(first: number, firstLength: number, second: number, secondLength: number, more: boolean): number {
    const whole = firstLength + secondLength;
    for (let accepted = 0; ; ) {
      const ofFirst = Math.min(accepted, firstLength);
      const ofSecond = accepted - ofFirst;
      const count = this.#sender.add(
        first + ofFirst,
        firstLength - ofFirst,
        second + ofSecond,
        secondLength - ofSecond,
      );
      accepted += count;
      if (accepted === whole && more) return whole;
      if (accepted < whole && count > 0) continue;
      // Either the sender's buffer is full or everything is in it.
      const failed = this.flush() < 0;
      if (accepted === whole) return whole;
      if (failed) return accepted === 0 ? -1 : accepted;
    }
  }

  flush(): number {
    const sender = this.#sender;
    sender.updateKeys();
    while (sender.pending > 0) {
      const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
      const count = libc.send(this.descriptor, sender.pendingAddress, sender.pending, flags);
      if (count < 0) return count;
      sender.sent(count);
    }
    return 0;
  }

  sendLast(address: number, length: number): void {
    this.#sender.add(address, length, 0, 0);
    this.#sender.alert(CLOSE_NOTIFY);
    this.flush();
  }

  /** Records are copies, so no socket shares pages. */
  unread(): number {
    return 0;
  }

  get retransmissions(): number {
    return retransmissions(this.descriptor);
  }

  dropOnClose(): void {
    dropOnClose(this.descriptor);
  }

  close(): void {
    this.#receiver.close();
    this.#sender.close();
    this.peer?.release();
    libc.close(this.descriptor);
  }

  #take(address: number, length: number): number {
    try {
      const got = this.#receiver.take(address, length);
      if (this.#receiver.updateRequested) this.#sender.wantUpdate();
      this.#receiver.updateRequested = false;
      return got;
    } catch (error) {
      if (error instanceof TlsError && error.alert !== undefined) {
        this.#sender.alert(error.alert);
        this.flush();
      }
      throw error;
    }
  }
}
