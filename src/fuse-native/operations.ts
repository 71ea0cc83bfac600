// libfuse's operations as fuse-native calls them, answered from the tree and the server.
//
// Made by adapter.ts. Paths are `/` and `/NAME`; errors are negative errnos. fuse-native's offsets are doubles, so the
// adapter refuses files beyond 2^53 bytes.

import type { Callback, Operations, Stat } from 'fuse-native';
import { EIO, EISDIR, ENOENT, ENOSPC } from '../constants/errno.js';
import { FATTR_ATIME, FATTR_GID, FATTR_MODE, FATTR_MTIME, FATTR_SIZE, FATTR_UID } from '../fuse/constants.js';
import { type AttributeChange, type Node, type Tree, touchNode } from '../fuse/tree.js';
import { type DiskIo, IoError } from './disk-io.js';

function errnoOf(error: unknown): number {
  return error instanceof IoError ? error.errno : EIO;
}

function statOf(node: Node): Stat {
  return {
    mode: node.mode,
    uid: node.uid,
    gid: node.gid,
    size: Number(node.size),
    nlink: node.isDirectory ? 2 : 1,
    ino: node.nodeid,
    blksize: node.blockSize,
    blocks: Number(node.blocks),
    atime: new Date(node.atime),
    mtime: new Date(node.mtime),
    ctime: new Date(node.ctime),
  };
}

const NO_CHANGE: AttributeChange = {
  valid: 0,
  mode: 0,
  uid: 0,
  gid: 0,
  size: 0n,
  atime: 0,
  mtime: 0,
  byOpen: false,
};

type Find = (path: string) => Node | undefined;

/** Makes the operations. @param disks the data of each node id */
export function makeOperations(tree: Tree, disks: ReadonlyMap<number, DiskIo>): Operations {
  const find: Find = (path) => (path === '/' ? tree.root : tree.lookup(path.slice(1)));
  return {
    ...lookingOperations(tree, find),
    ...changingOperations(tree, find),
    ...dataOperations(disks, find),
  };
}

function withNode(node: Node | undefined, done: (error: number) => void, act: (node: Node) => void): void {
  if (node === undefined) done(-ENOENT);
  else act(node);
}

function lookingOperations(tree: Tree, find: Find) {
  /** The last handle. */
  let handles = 0;
  const getattr = (path: string, done: Callback<Stat>): void =>
    withNode(find(path), done, (node) => done(0, statOf(node)));
  return {
    getattr,
    fgetattr: (path, _handle, done) => getattr(path, done),
    readdir: (_path, done) => done(0, ['.', '..', ...tree.files().map((node) => node.name)]),
    // The kernel has checked the permission bits, as default_permissions is set.
    access: (path, mask, done) => withNode(find(path), done, (node) => done(-tree.access(node, mask, 0, 0))),
    open: (path, flags, done) =>
      withNode(find(path), done, (node) => {
        const error = tree.open(node, flags);
        if (error === 0) node.errors.opened(++handles);
        done(-error, error === 0 ? handles : 0);
      }),
    release: (path, handle, done) => {
      find(path)?.errors.released(handle);
      done(0);
    },
    flush: (_path, _handle, done) => done(0),
    statfs: (_path, done) => {
      const files = tree.files();
      const blocks = files.reduce((sum, node) => sum + Math.ceil(Number(node.size) / 4096), 0);
      // As in src/fuse/reply.ts.
      const free = { bfree: blocks, bavail: blocks, ffree: 0 };
      done(0, { bsize: 4096, frsize: 4096, blocks, files: files.length, namemax: 255, ...free });
    },
  } satisfies Partial<Operations>;
}

function changingOperations(tree: Tree, find: Find) {
  const change = (path: string, wanted: Partial<AttributeChange>, done: Callback): void =>
    withNode(find(path), done, (node) => {
      done(-tree.setAttributes(node, { ...NO_CHANGE, ...wanted }, Date.now()));
    });
  const truncate = (path: string, size: number, byOpen: boolean, done: Callback): void =>
    change(path, { valid: FATTR_SIZE, size: BigInt(size), byOpen }, done);
  return {
    // libfuse 2 also calls truncate for O_TRUNC, without saying so: size 0 counts as O_TRUNC.
    truncate: (path, size, done) => truncate(path, size, true, done),
    ftruncate: (path, _handle, size, done) => truncate(path, size, false, done),
    utimens: (path, atime, mtime, done) =>
      change(path, { valid: FATTR_ATIME | FATTR_MTIME, atime: Number(atime), mtime: Number(mtime) }, done),
    chmod: (path, mode, done) => change(path, { valid: FATTR_MODE, mode }, done),
    chown: (path, uid, gid, done) => change(path, { valid: FATTR_UID | FATTR_GID, uid, gid }, done),
  } satisfies Partial<Operations>;
}

function dataOperations(disks: ReadonlyMap<number, DiskIo>, find: Find) {
  /** Runs `act`. The result is a byte count, or a negative errno. */
  const withDisk = (
    path: string,
    done: (count: number) => void,
    act: (node: Node, disk: DiskIo) => Promise<number>,
  ): void =>
    withNode(find(path), done, (node) => {
      const disk = disks.get(node.nodeid);
      if (disk === undefined) done(-EISDIR);
      else act(node, disk).then(done, (error) => done(-errnoOf(error)));
    });
  const onDisk = (node: Node, at: number, length: number): number =>
    Math.max(0, Math.min(length, Number(node.size) - at));
  return {
    read: (path, _handle, into, length, at, done) =>
      withDisk(path, done, async (node, disk) => {
        const count = onDisk(node, at, length);
        if (count > 0) await disk.read(BigInt(at), into.subarray(0, count));
        return count;
      }),
    write: (path, _handle, from, length, at, done) =>
      withDisk(path, done, async (node, disk) => {
        const count = onDisk(node, at, length);
        if (count === 0 && length > 0) throw new IoError(ENOSPC);
        await disk.write(BigInt(at), from.subarray(0, count));
        touchNode(node, Date.now());
        return count;
      }),
    fsync: (path, _dataOnly, handle, done) =>
      withDisk(path, done, async (node, disk) => {
        await disk.flush().catch((error: unknown) => {
          // The server may drop the writes of a failed FLUSH, and the next FLUSH may succeed.
          node.errors.raise();
          node.errors.take(handle);
          throw error;
        });
        return node.errors.take(handle) ? -EIO : 0;
      }),
  } satisfies Partial<Operations>;
}
