// The transmission phase of one client: its requests go to the disk, several at once, and the replies come back in any
// order.
//
// Owned by client.ts; knows no socket. The bytes of requests in progress, and of replies that have not left, are
// bounded: while the bound is reached, `admits` declines, and the client's bytes stay in the socket.

import { EIO } from '../../constants/errno.js';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_DISC,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from '../../nbd/constants.js';
import { nbdFromErrno } from '../../nbd/errors.js';
import {
  type AllocationExtent,
  type ChangeFlags,
  type DiskBytes,
  type DiskConnection,
  isLost,
} from '../contract/disk.js';
import type { Terms } from './handshake.js';
import { dataHead, doneReply, errorReply, lengthOf, statusReply } from './replies.js';
import type { ClientRequest, RequestSink } from './request-receiver.js';
import { requestError } from './request-rules.js';

/** Maximum requests of a client in progress. */
const MAX_REQUESTS = 256;
/** Maximum payload bytes of a client's requests in progress and of its replies that have not left. */
const MAX_BYTES = 64 * 1024 * 1024;
/** Maximum extents of a reply. */
const MAX_EXTENTS = 8192;

/** Where replies go. */
export interface ReplyOutput {
  /** Sends the parts of a reply in a row, and calls `onSent` when the kernel has them. */
  send(parts: readonly Uint8Array[], onSent: () => void): void;
  /** A request has ended, or its reply has left. */
  onProgress(): void;
  /** The disk's server is lost. */
  onLost(): void;
}

/** Bytes for which a request is counted. */
const payloadOf = ({ type, length }: ClientRequest): number =>
  type === NBD_CMD_READ || type === NBD_CMD_WRITE ? length : 0;

function changeFlags(flags: number): ChangeFlags {
  return {
    fua: (flags & NBD_CMD_FLAG_FUA) !== 0,
    noHole: (flags & NBD_CMD_FLAG_NO_HOLE) !== 0,
    fastZero: (flags & NBD_CMD_FLAG_FAST_ZERO) !== 0,
  };
}

/** The error number and the text of a rejection: see DiskConnection. */
function detailsOf(error: unknown): { errno: number; text: string } {
  const text = error instanceof Error ? error.message : String(error);
  if (typeof error !== 'object' || error === null) return { errno: EIO, text };
  const errno = 'errno' in error && typeof error.errno === 'number' ? error.errno : EIO;
  return { errno, text };
}

/** See the file's head. */
export class Transmission implements RequestSink {
  readonly #disk: DiskConnection;
  readonly #terms: Terms;
  readonly #output: ReplyOutput;
  #requests = 0;
  #bytes = 0;
  #isLeaving = false;

  constructor(disk: DiskConnection, terms: Terms, output: ReplyOutput) {
    this.#disk = disk;
    this.#terms = terms;
    this.#output = output;
  }

  /** Whether the client has sent NBD_CMD_DISC. */
  get isLeaving(): boolean {
    return this.#isLeaving;
  }

  /** Whether all replies have left. */
  get isIdle(): boolean {
    return this.#requests === 0;
  }

  admits(request: ClientRequest): boolean {
    if (this.#requests === 0) return true;
    return this.#requests < MAX_REQUESTS && this.#bytes + this.#costOf(request) <= MAX_BYTES;
  }

  /** A READ or WRITE that is longer than the maximum is refused without its bytes. */
  #costOf(request: ClientRequest): number {
    const payload = payloadOf(request);
    return payload > this.#disk.properties.blockSizes.maximum ? 0 : payload;
  }

  take(request: ClientRequest, payload: Uint8Array | undefined): void {
    if (this.#isLeaving) return;
    if (request.type === NBD_CMD_DISC) {
      this.#isLeaving = true;
      return;
    }
    const cost = this.#costOf(request);
    this.#requests++;
    this.#bytes += cost;
    const reply = (...parts: readonly Uint8Array[]): void =>
      this.#output.send(parts, () => {
        this.#requests--;
        this.#bytes -= cost;
        this.#output.onProgress();
      });
    const { structured } = this.#terms;
    const error = requestError(request, this.#disk.properties, this.#terms);
    if (error !== 0) reply(errorReply(request, structured, error, ''));
    else if (payloadOf(request) === 0 && request.type !== NBD_CMD_FLUSH && request.length === 0)
      reply(doneReply(request, structured));
    else this.#execute(request, payload ?? new Uint8Array(0), reply);
  }

  #execute(
    request: ClientRequest,
    payload: Uint8Array,
    reply: (...parts: readonly Uint8Array[]) => void,
  ): void {
    const answer = this.#answer(request, payload);
    if (!(answer instanceof Promise)) {
      reply(...answer);
      return;
    }
    answer.then(
      (parts) => reply(...parts),
      (error: unknown) => {
        const { errno, text } = detailsOf(error);
        if (isLost(error)) this.#output.onLost();
        else reply(errorReply(request, this.#terms.structured, nbdFromErrno(errno), text));
      },
    );
  }

  /** The parts of the reply; at once if they are known. @throws nothing: all errors are rejections */
  #answer(request: ClientRequest, payload: Uint8Array): DiskBytes | Promise<DiskBytes> {
    const { type, flags, offset, length } = request;
    if (type !== NBD_CMD_READ) return this.#ask(request, payload);
    try {
      const found = this.#disk.read(offset, length, { df: (flags & NBD_CMD_FLAG_DF) !== 0 });
      if (!(found instanceof Promise)) return this.#dataReply(request, found);
      return found.then((parts) => this.#dataReply(request, parts));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** @throws Error for another number of bytes, which would break the framing */
  #dataReply(request: ClientRequest, parts: DiskBytes): DiskBytes {
    const length = lengthOf(parts);
    if (length !== request.length) throw new Error(`the disk gave ${length} of ${request.length} bytes`);
    return [dataHead(request, this.#terms.structured), ...parts];
  }

  /** Asks the disk for all but bytes. @returns the parts of the reply */
  async #ask(request: ClientRequest, payload: Uint8Array): Promise<DiskBytes> {
    const { type, offset, length } = request;
    const { structured } = this.#terms;
    const flags = changeFlags(request.flags);
    switch (type) {
      case NBD_CMD_BLOCK_STATUS:
        return [statusReply(request, this.#terms.allocation ?? 0, await this.#extents(request))];
      case NBD_CMD_CACHE:
        this.#disk.cache(offset, length);
        break;
      case NBD_CMD_WRITE:
        await this.#disk.write(offset, payload, flags);
        break;
      case NBD_CMD_WRITE_ZEROES:
        await this.#disk.zero(offset, length, flags);
        break;
      case NBD_CMD_TRIM:
        await this.#disk.trim(offset, length, flags);
        break;
      default:
        await this.#disk.flush();
    }
    return [doneReply(request, structured)];
  }

  async #extents({ offset, length, flags }: ClientRequest): Promise<readonly AllocationExtent[]> {
    const isOne = (flags & NBD_CMD_FLAG_REQ_ONE) !== 0;
    const all = [{ length, hole: false, zero: false }];
    const found = (await this.#disk.extents(offset, length, isOne)) ?? all;
    if (found.length === 0) throw new Error('the disk gave no extents');
    return found.slice(0, isOne ? 1 : MAX_EXTENTS);
  }
}
