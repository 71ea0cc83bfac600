// A program that mounts like nbdfuse and serves an empty file system, so that tests see the kernel's view of
// a mount.
//
// Started by attach.test.ts, maybe as another user: argv are MOUNTPOINT and texts for -o. Reports its mount
// in one line of JSON on stdout; then obeys `unmount` and `lazy` on stdin and answers each with a line. Ends
// with status 0 when it is unmounted, or with status 1 and one line on stderr if it could not mount.

import { read, write } from 'node:fs';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { ENOENT, ENOSYS } from '../../../src/constants/errno.js';
import { S_IFDIR, S_IFREG } from '../../../src/constants/file-mode.js';
import { libc } from '../../../src/linux/libc.js';
import { mountKernel } from '../../../src/mount/attach.js';
import { MountError } from '../../../src/mount/errors.js';
import { resolveMountpoint } from '../../../src/mount/mountpoint.js';
import { parseFuseOptions } from '../../../src/mount/options.js';

const F_SETFL = 4;

const readDevice = promisify(read);
const writeDevice = promisify(write);

/** Numbers of requests, as in fuse.h. */
const FUSE = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  OPEN: 14,
  RELEASE: 18,
  INIT: 26,
  OPENDIR: 27,
  RELEASEDIR: 29,
  INTERRUPT: 36,
  DESTROY: 38,
  BATCH_FORGET: 42,
};

/** Errors of /dev/fuse after the end of the mount. */
const UNMOUNTED = ['ENODEV', 'ECONNABORTED', 'EPERM'];

/** The body of the answer to a request, or an errno; undefined when none is expected. */
function answer(opcode: number, mode: number): DataView | number | undefined {
  const body = (length: number) => new DataView(new ArrayBuffer(length));
  switch (opcode) {
    case FUSE.INIT: {
      const init = body(64);
      init.setUint32(0, 7, true);
      init.setUint32(4, 31, true);
      init.setUint32(8, 0xffffffff, true);
      init.setUint32(20, 131_072, true);
      return init;
    }
    case FUSE.GETATTR: {
      const attributes = body(104);
      attributes.setUint32(16, 1, true);
      attributes.setUint32(76, mode, true);
      attributes.setUint32(80, 1, true);
      attributes.setUint32(84, process.getuid?.() ?? 0, true);
      return attributes;
    }
    case FUSE.LOOKUP:
      return ENOENT;
    case FUSE.OPEN:
    case FUSE.OPENDIR:
      return body(16);
    case FUSE.RELEASE:
    case FUSE.RELEASEDIR:
    case FUSE.DESTROY:
      return body(0);
    case FUSE.FORGET:
    case FUSE.BATCH_FORGET:
    case FUSE.INTERRUPT:
      return undefined;
    default:
      return ENOSYS;
  }
}

/** A step that may fail with one of `codes`, which is then its result. */
function unless<T>(codes: readonly string[], step: Promise<T>): Promise<T | undefined> {
  return step.catch((error: NodeJS.ErrnoException) => {
    if (!codes.includes(error.code ?? '')) throw error;
    return undefined;
  });
}

/** Answers the kernel until it is unmounted. */
async function serve(device: number, mode: number): Promise<void> {
  libc.fcntl(device, F_SETFL, 0);
  const request = Buffer.alloc(256 * 1024);
  for (;;) {
    const got = await unless(UNMOUNTED, readDevice(device, request, 0, request.length, null));
    if (got === undefined || got.bytesRead === 0) return;
    const reply = answer(request.readUInt32LE(4), mode);
    if (reply === undefined) continue;
    const body = typeof reply === 'number' ? Buffer.alloc(0) : Buffer.from(reply.buffer);
    const header = Buffer.alloc(16);
    header.writeUInt32LE(16 + body.length, 0);
    header.writeInt32LE(typeof reply === 'number' ? -reply : 0, 4);
    request.copy(header, 8, 8, 16);
    // The requester may have ended, and the mount as well.
    await unless(['ENOENT', ...UNMOUNTED], writeDevice(device, Buffer.concat([header, body])));
  }
}

function say(what: unknown): void {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}

async function run(text: string, options: readonly string[]): Promise<void> {
  const mountpoint = await resolveMountpoint(text);
  const mount = await mountKernel(mountpoint, parseFuseOptions(options));
  say(mountpoint);
  createInterface(process.stdin).on('line', (word) => {
    mount.unmount({ lazy: word === 'lazy' }).then(
      () => say('done'),
      (error: MountError) => say({ errno: error.errno, message: error.message }),
    );
  });
  await serve(mount.device, mountpoint.kind === 'file' ? S_IFREG | 0o644 : S_IFDIR | 0o755);
}

try {
  const [text = '', ...options] = process.argv.slice(2);
  await run(text, options);
  process.stdin.destroy();
} catch (error) {
  if (!(error instanceof MountError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
}
