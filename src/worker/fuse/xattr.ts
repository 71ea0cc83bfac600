// The extended attributes of a file: `user.nbd.status` with everything as JSON, and one for each field.
//
// Called by the dispatcher. Readable while the server is away; nobody can set one.

import { ENODATA, ERANGE } from '../../constants/errno.js';
import { GETXATTR_NAME, GETXATTR_SIZE, HOST_ENDIAN, OUT_HEADER } from '../../fuse/layout.js';
import { writeXattrSize } from '../../fuse/reply.js';
import { withFormerNames } from '../contract/former-names.js';
import type { Status } from '../contract/status.js';
import type { Device, Requester } from '../device/device.js';
import { nameIn } from './metadata.js';

const PREFIX = 'user.nbd.';
const WHOLE = 'status';

/** Bytes by which a value may grow between the query for its size and the next: longer numbers, and some waits. */
const GROWTH = 1024;

/** `readAhead` as `read-ahead`. */
const dashed = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** Fields that are lists of words. */
const WORD_LISTS: readonly string[] = ['flags', 'metaContexts'] satisfies (keyof Status)[];

/** A word, words with blanks between them, or JSON. */
function textOf(name: string, value: unknown): string {
  if (Array.isArray(value) && WORD_LISTS.includes(name)) return value.join(' ');
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** The attributes of a status: names without the prefix, and values. */
export function attributesOf(status: Status): ReadonlyMap<string, string> {
  const all = withFormerNames(status);
  const parts = Object.entries(all).map(([name, value]): [string, string] => [
    dashed(name),
    textOf(name, value),
  ]);
  return new Map([[WHOLE, JSON.stringify(all)], ...parts]);
}

/** Answers requests for extended attributes. Each method returns the errno of the reply. */
export class ExtendedAttributes {
  readonly #device: Device;

  constructor(device: Device) {
    this.#device = device;
  }

  /** FUSE_GETXATTR. @param status of the file; undefined for the directory */
  get(status: (() => Status) | undefined, view: DataView, length: number, requester: Requester): number {
    const bytes = new Uint8Array(view.buffer, view.byteOffset, length);
    const name = nameIn(bytes, GETXATTR_NAME, length);
    if (status === undefined || !name.startsWith(PREFIX)) return this.#error(ENODATA, requester);
    const value = attributesOf(status()).get(name.slice(PREFIX.length));
    if (value === undefined) return this.#error(ENODATA, requester);
    return this.#reply(new TextEncoder().encode(value), view, requester);
  }

  /** FUSE_LISTXATTR. */
  list(status: (() => Status) | undefined, view: DataView, requester: Requester): number {
    const names = status === undefined ? [] : [...attributesOf(status()).keys()];
    const text = names.map((name) => `${PREFIX}${name}\0`).join('');
    return this.#reply(new TextEncoder().encode(text), view, requester);
  }

  /** Sends a value, or its size if the kernel asks with size 0. */
  #reply(value: Uint8Array, view: DataView, requester: Requester): number {
    const room = view.getUint32(GETXATTR_SIZE, HOST_ENDIAN);
    if (room > 0 && room < value.length) return this.#error(ERANGE, requester);
    const { small } = this.#device;
    if (room > 0) {
      new Uint8Array(small.buffer, small.byteOffset + OUT_HEADER, value.length).set(value);
      this.#device.replySmall(value.length, requester);
      return 0;
    }
    this.#device.replySmall(writeXattrSize(small, value.length + GROWTH), requester);
    return 0;
  }

  #error(error: number, requester: Requester): number {
    this.#device.replyError(error, requester);
    return error;
  }
}
