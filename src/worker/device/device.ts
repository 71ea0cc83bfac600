// One /dev/fuse descriptor: receives requests and sends replies, with one system call each.
//
// Owned by the loop. The descriptor must be non-blocking. A request stays in `buffer` until the next `receive`; after
// `takeBuffer` it belongs to the caller. A reply goes to the descriptor of its request: a read thread that forwards a
// request has a descriptor of its own.

import { EAGAIN, EINTR, EINVAL, ENODEV, ENOENT } from '../../constants/errno.js';
import { errnoName } from '../../constants/errno-names.js';
import { ioctlWrite } from '../../constants/open-flags.js';
import { OUT_HEADER } from '../../fuse/layout.js';
import { writeOutHeader } from '../../fuse/reply.js';
import { errnoReason } from '../../linux/errno.js';
import { addressOf, errno, libc } from '../../linux/libc.js';
import { type BufferPool, HEADROOM, LARGEST_BUFFER, type PooledBuffer } from '../memory/buffer-pool.js';
import type { DeviceCalls } from './system.js';

/** Result of `receive`: no request is waiting. */
export const DEVICE_EMPTY = 0;
/** Result of `receive`: the file system is unmounted, no request will come. */
export const DEVICE_GONE = -1;

/** Size in bytes of the buffer for replies without file data; a READDIR of 64 KiB fits. */
const SMALL_REPLY = 128 * 1024;

/** Largest READ or WRITE of the kernel in bytes: 256 pages of 4 KiB. */
export const MAX_TRANSFER = 1024 * 1024;

/** Up to this many bytes of data are copied out of the device's buffer. A request with more data takes the buffer. */
export const COPY_LIMIT = 256 * 1024;

/** FUSE_DEV_IOC_BACKING_OPEN and FUSE_DEV_IOC_BACKING_CLOSE of fuse.h, and the size of `fuse_backing_map`. */
const BACKING_MAP = 16;
const BACKING_OPEN = ioctlWrite(229, 1, BACKING_MAP);
const BACKING_CLOSE = ioctlWrite(229, 2, 4);

/** The address of a reply: the request's number in the kernel, and the descriptor that delivered the request. */
export interface Requester {
  readonly descriptor: number;
  readonly uniqueLo: number;
  readonly uniqueHi: number;
}

/** The number of a notification. */
const UNREQUESTED = { uniqueLo: 0, uniqueHi: 0 };

/** See the file's head. */
export class Device {
  readonly descriptor: number;
  /** The descriptor that delivered the request in `buffer`. */
  source: number;
  /** Buffer for a small reply: write the body from byte 16 on, then call `replySmall`. */
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

  /** The buffer with the request that came last, from byte 0 on. */
  get buffer(): PooledBuffer {
    return this.#buffer;
  }

  /** Receives one request. Returns its length in bytes, DEVICE_EMPTY or DEVICE_GONE. @throws Error of read(2) */
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
        // ENOENT: a signal withdrew the request before we read it.
        case ENOENT:
        case EINTR:
          continue;
        case ENODEV:
          return DEVICE_GONE;
        default:
          throw new Error(`reading /dev/fuse failed: ${errnoReason(error)}`);
      }
    }
  }

  close(): void {
    this.#calls.close(this.descriptor);
  }

  /** Gives the kernel a file to read without nbdfuse. Returns the kernel's id of it, 1 or more, or the name of an errno. */
  openBacking(descriptor: number): number | string {
    const map = new Int32Array(BACKING_MAP / 4);
    map[0] = descriptor;
    const id = this.#calls.ioctl(this.descriptor, BACKING_OPEN, addressOf(map));
    return id > 0 ? id : errnoName(errno());
  }

  /** Takes such a file back. The mount may be gone, which is no error. */
  closeBacking(id: number): void {
    this.#calls.ioctl(this.descriptor, BACKING_CLOSE, addressOf(new Uint32Array([id])));
  }

  /** Copies a request of `length` bytes at `address` into `buffer`, with the descriptor that delivered it. */
  load(address: number, length: number, source: number): void {
    libc.memcpy(this.#buffer.address, address, length);
    this.source = source;
  }

  /** Hands the buffer with the request to the caller, and takes another one. */
  takeBuffer(): PooledBuffer {
    const buffer = this.#buffer;
    this.#buffer = this.#buffers.take(LARGEST_BUFFER);
    return buffer;
  }

  /**
   * Sends a reply of `length` bytes at `address`, which is byte `at` of `view`. Its first 16 bytes get the header.
   * @throws Error of write(2), except when the requester is gone
   */
  reply(view: DataView, at: number, address: number, length: number, requester: Requester): void {
    writeOutHeader(view, at, length, 0, requester);
    this.#write(address, length, requester);
  }

  /** Sends the reply in `small`, with `bodyLength` bytes of body. */
  replySmall(bodyLength: number, requester: Requester): void {
    this.reply(this.small, 0, this.#smallAddress, OUT_HEADER + bodyLength, requester);
  }

  /** Sends an errno, or 0 for success without a body. */
  replyError(error: number, requester: Requester): void {
    writeOutHeader(this.small, 0, OUT_HEADER, error, requester);
    this.#write(this.#smallAddress, OUT_HEADER, requester);
  }

  /** Sends the notification `code` with the body in `small`. The kernel may not know the file, which is no error. */
  notify(code: number, bodyLength: number): void {
    writeOutHeader(this.small, 0, OUT_HEADER + bodyLength, -code, UNREQUESTED);
    this.#write(this.#smallAddress, OUT_HEADER + bodyLength, { ...UNREQUESTED, descriptor: this.descriptor });
  }

  #write(address: number, length: number, requester: Requester): void {
    const count = this.#calls.write(requester.descriptor, address, length);
    if (count === length) return;
    const wrong = errno();
    // ENOENT: a signal has ended the requester. ENODEV: the file system is unmounted.
    if (wrong === ENOENT || wrong === ENODEV || wrong === EINVAL) return;
    throw new Error(`writing to /dev/fuse failed: ${errnoReason(wrong)}`);
  }
}
