// One /dev/fuse descriptor: requests in, replies out, one system call each.
//
// Owned by the loop. The descriptor must be non-blocking. A request lies in `block` from its first
// byte on until the next `receive`, or longer if `takeBlock` hands the block over with the data in it.
// It is answered on the descriptor that it was read from, which a reader's is where that has passed it on.

import { OUT_HEADER } from '../../fuse/layout.js';
import { writeOutHeader } from '../../fuse/reply.js';
import { EAGAIN, EINTR, EINVAL, ENODEV, ENOENT, errnoName } from '../../linux/errno.js';
import { addressOf, errno, libc } from '../../linux/libc.js';
import { type BufferPool, HEADROOM, LARGEST_BUFFER, type PooledBuffer } from '../memory/buffer-pool.js';
import type { DeviceCalls } from './system.js';

/** No request is waiting. */
export const DEVICE_EMPTY = 0;
/** The file system is unmounted: nothing will ever come. */
export const DEVICE_GONE = -1;

/** Bytes of the buffer for replies that carry no file data; a READDIR of 64 KiB fits. */
const SMALL_REPLY = 128 * 1024;

/** Bytes of one READ or WRITE of the kernel: 256 pages of 4 KiB. */
export const MAX_TRANSFER = 1024 * 1024;

/** What is kept of a request is copied out of the device's block up to this many bytes; for more, the block is kept. */
export const COPY_LIMIT = 256 * 1024;

/** Who is to be answered: the kernel's number of the request, and the descriptor that it was read from. */
export interface Requester {
  readonly descriptor: number;
  readonly uniqueLo: number;
  readonly uniqueHi: number;
}

/** See the file's head. */
export class Device {
  readonly descriptor: number;
  /** The descriptor that the request in `block` was read from. */
  source: number;
  /** Memory for a small reply: write the body from byte 16 on, then call `replySmall`. */
  readonly small = new DataView(new ArrayBuffer(SMALL_REPLY));
  readonly #smallAddress = addressOf(this.small);
  readonly #calls: DeviceCalls;
  readonly #buffers: BufferPool;
  readonly #length: number;
  #buffer: PooledBuffer;

  /** @param maxTransfer bytes of data of the largest WRITE */
  constructor(descriptor: number, buffers: BufferPool, maxTransfer: number, calls: DeviceCalls) {
    this.#calls = calls;
    this.descriptor = descriptor;
    this.source = descriptor;
    this.#buffers = buffers;
    this.#buffer = buffers.take(LARGEST_BUFFER);
    this.#length = HEADROOM + maxTransfer;
  }

  /** Where the request lies that was received last. */
  get buffer(): PooledBuffer {
    return this.#buffer;
  }

  /** Receives one request: its length in bytes, DEVICE_EMPTY or DEVICE_GONE. */
  receive(): number {
    for (;;) {
      const count = this.#calls.read(this.descriptor, this.#buffer.address, this.#length);
      if (count > 0) {
        this.source = this.descriptor;
        return count;
      }
      const error = errno();
      switch (error) {
        case EAGAIN:
          return DEVICE_EMPTY;
        // ENOENT: the request was taken back by an interrupt before it was read.
        case ENOENT:
        case EINTR:
          continue;
        case ENODEV:
          return DEVICE_GONE;
        default:
          throw new Error(`reading /dev/fuse failed: ${errnoName(error)}`);
      }
    }
  }

  close(): void {
    this.#calls.close(this.descriptor);
  }

  /** Takes over a request of `length` bytes at `address` that was read from another descriptor of this mount. */
  load(address: number, length: number, source: number): void {
    libc.memcpy(this.#buffer.address, address, length);
    this.source = source;
  }

  /** Hands the block with the request over to the caller, and takes another for the next ones. */
  takeBuffer(): PooledBuffer {
    const buffer = this.#buffer;
    this.#buffer = this.#buffers.take(LARGEST_BUFFER);
    return buffer;
  }

  /**
   * Sends a reply of `length` bytes that lies at `address`, which is byte `at` of `view`: the first
   * 16 bytes are overwritten with the header.
   */
  reply(view: DataView, at: number, address: number, length: number, requester: Requester): void {
    writeOutHeader(view, at, length, 0, requester);
    this.#write(address, length, requester);
  }

  /** Sends the small reply, with `bodyLength` bytes of body. */
  replySmall(bodyLength: number, requester: Requester): void {
    this.reply(this.small, 0, this.#smallAddress, OUT_HEADER + bodyLength, requester);
  }

  /** Sends an errno, or success without a body when it is 0. */
  replyError(error: number, requester: Requester): void {
    writeOutHeader(this.small, 0, OUT_HEADER, error, requester);
    this.#write(this.#smallAddress, OUT_HEADER, requester);
  }

  #write(address: number, length: number, requester: Requester): void {
    const count = this.#calls.write(requester.descriptor, address, length);
    if (count === length) return;
    const wrong = errno();
    // ENOENT: a signal has ended the requester. ENODEV: the file system is unmounted.
    if (wrong === ENOENT || wrong === ENODEV || wrong === EINVAL) return;
    throw new Error(`writing to /dev/fuse failed: ${errnoName(wrong)}`);
  }
}
