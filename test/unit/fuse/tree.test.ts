// The metadata rules of a disk shown as a file.

import { describe, expect, test } from 'vitest';
import { EACCES, EPERM, EROFS } from '../../../src/constants/errno.js';
import {
  FATTR_ATIME,
  FATTR_ATIME_NOW,
  FATTR_GID,
  FATTR_MODE,
  FATTR_MTIME,
  FATTR_MTIME_NOW,
  FATTR_SIZE,
  FATTR_UID,
} from '../../../src/fuse/constants.js';
import { type AttributeChange, type Node, Tree } from '../../../src/fuse/tree.js';

const OPTIONS = { uid: 1000, gid: 100, umask: 0o022, now: 5000 };
const NOTHING: AttributeChange = {
  valid: 0,
  mode: 0,
  uid: 0,
  gid: 0,
  size: 0n,
  atime: 0,
  mtime: 0,
  byOpen: false,
};

function oneFile(readOnly = false, size = 2n ** 62n): { tree: Tree; node: Node } {
  const tree = new Tree([{ name: 'nbd', size, readOnly, blockSize: 4096 }], false, OPTIONS);
  return { tree, node: tree.files()[0] };
}

describe('file tree', () => {
  test('has a directory 0755 with a file 0666 less the umask, owned by the user of the mount', () => {
    const { tree, node } = oneFile();
    expect(tree.root.mode).toBe(0o040755);
    expect(node).toMatchObject({ mode: 0o100644, uid: 1000, gid: 100, size: 2n ** 62n, mtime: 5000 });
    expect(tree.lookup('nbd')).toBe(node);
    expect(tree.lookup('other')).toBeUndefined();
    expect(tree.node(node.nodeid)).toBe(node);
  });

  test('gives a read-only file 0444', () => {
    expect(oneFile(true).node.mode).toBe(0o100444);
  });

  test('makes the file the root, for a mount over a file', () => {
    const tree = new Tree([{ name: '', size: 1n, readOnly: false, blockSize: 512 }], true, OPTIONS);
    expect(tree.root).toMatchObject({ nodeid: 1, isDirectory: false, size: 1n, blocks: 1n });
    expect(tree.files()).toEqual([tree.root]);
  });

  test('hides a removed file, and keeps it for its users until the kernel forgets it', () => {
    const { tree, node } = oneFile();
    node.lookups = 3;
    tree.remove('nbd');
    expect(tree.lookup('nbd')).toBeUndefined();
    tree.forget(node.nodeid, 2);
    expect(tree.node(node.nodeid)).toBe(node);
    tree.forget(node.nodeid, 1);
    expect(tree.node(node.nodeid)).toBeUndefined();
  });

  test('keeps a visible file, however often the kernel forgets it', () => {
    const { tree, node } = oneFile();
    tree.forget(node.nodeid, 5);
    tree.forget(99, 1);
    expect(tree.node(node.nodeid)).toBe(node);
  });

  test('learns unknown facts about a file later', () => {
    const tree = new Tree([], false, OPTIONS);
    const file = { name: 'a', size: 0n, readOnly: false, blockSize: 4096 };
    const node = tree.add({ ...file, known: false });
    expect(node).toMatchObject({ known: false, size: 0n });
    tree.describe(node, { ...file, size: 1024n, readOnly: true });
    expect(node).toMatchObject({ nodeid: 2, known: true, size: 1024n, blocks: 2n, mode: 0o100444 });
    expect(tree.root.readOnly).toBe(false);
  });

  test('finds the files beyond a node id, while others come and go', () => {
    const tree = new Tree([], false, OPTIONS);
    for (const name of ['a', 'b', 'c', 'd']) tree.add({ name, size: 1n, readOnly: false, blockSize: 512 });
    const beyond = (nodeid: number, count: number): string[] =>
      tree.filesBeyond(nodeid, count).map(({ name }) => name);
    expect(beyond(0, 2)).toEqual(['a', 'b']);
    tree.remove('b');
    expect(beyond(3, 9)).toEqual(['c', 'd']);
    expect(beyond(2, 1)).toEqual(['c']);
    expect(beyond(5, 9)).toEqual([]);
  });
});

describe('several files', () => {
  const file = (name: string, readOnly: boolean) => ({ name, size: 513n, readOnly, blockSize: 512 });

  test('have node ids from 2 on, in order, and a directory that is read-only when all are', () => {
    const tree = new Tree([file('a', true), file('b', false)], false, OPTIONS);
    expect(tree.files().map(({ name, nodeid, blocks }) => [name, nodeid, blocks])).toEqual([
      ['a', 2, 2n],
      ['b', 3, 2n],
    ]);
    expect(tree.root.readOnly).toBe(false);
    expect(new Tree([file('a', true), file('b', true)], false, OPTIONS).root.readOnly).toBe(true);
  });

  test('get an id that was never used when added later', () => {
    const tree = new Tree([file('a', false)], false, OPTIONS);
    tree.remove('a');
    const again = tree.add(file('a', false));
    expect(again.nodeid).toBe(3);
    expect(tree.files()).toEqual([again]);
    expect(tree.node(2)).not.toBe(again);
    expect(tree.node(4)).toBeUndefined();
  });

  test('lose the bits of the umask, as their directory does', () => {
    const tree = new Tree([file('a', false), file('b', true)], false, { ...OPTIONS, umask: 0o077 });
    expect([tree.root, ...tree.files()].map(({ mode }) => mode)).toEqual([0o040700, 0o100600, 0o100400]);
  });

  test('have no blocks on an empty disk, and all of them on the largest', () => {
    const blocksOf = (size: bigint): bigint => oneFile(false, size).node.blocks;
    expect([0n, 1n, 512n, 2n ** 63n - 1n].map(blocksOf)).toEqual([0n, 1n, 1n, 2n ** 54n]);
  });
});

describe('SETATTR', () => {
  const resize = (size: bigint, byOpen: boolean): AttributeChange => ({
    ...NOTHING,
    valid: FATTR_SIZE,
    size,
    byOpen,
  });

  test('accepts the present size and O_TRUNC, and changes nothing', () => {
    const { tree, node } = oneFile();
    expect(tree.setAttributes(node, resize(2n ** 62n, false), 1)).toBe(0);
    expect(tree.setAttributes(node, resize(0n, true), 1)).toBe(0);
    expect(node.size).toBe(2n ** 62n);
  });

  test('refuses any other size', () => {
    const { tree, node } = oneFile();
    expect(tree.setAttributes(node, resize(0n, false), 1)).toBe(EPERM);
    expect(tree.setAttributes(node, resize(2n ** 62n - 1n, true), 1)).toBe(EPERM);
  });

  test('changes nothing when it is refused', () => {
    const { tree, node } = oneFile();
    const before = { ...node };
    const change = { ...resize(1n, false), valid: FATTR_SIZE | FATTR_MODE | FATTR_UID, mode: 0, uid: 1 };
    expect(tree.setAttributes(node, change, 9000)).toBe(EPERM);
    expect(node).toEqual(before);
  });

  test('changes owners, but not the kind of file', () => {
    const { tree, node } = oneFile();
    const valid = FATTR_UID | FATTR_GID | FATTR_MODE;
    expect(tree.setAttributes(node, { ...NOTHING, valid, uid: 7, gid: 8, mode: 0o044755 }, 9000)).toBe(0);
    expect(node).toMatchObject({ uid: 7, gid: 8, mode: 0o104755, ctime: 9000 });
  });

  test('ignores fields that are not valid', () => {
    const { tree, node } = oneFile();
    const before = { ...node };
    const noise = { valid: 0, mode: 0o777, uid: 1, gid: 1, size: 5n, atime: 1, mtime: 1, byOpen: false };
    expect(tree.setAttributes(node, noise, 5000)).toBe(0);
    expect(node).toEqual(before);
  });

  test('keeps mode and times', () => {
    const { tree, node } = oneFile();
    tree.setAttributes(
      node,
      { ...NOTHING, valid: FATTR_MODE | FATTR_MTIME, mode: 0o100600, mtime: 77 },
      9000,
    );
    expect(node).toMatchObject({ mode: 0o100600, mtime: 77, ctime: 9000, atime: 5000 });
    tree.setAttributes(node, { ...NOTHING, valid: FATTR_MTIME | FATTR_MTIME_NOW, mtime: 1 }, 9500);
    expect(node.mtime).toBe(9500);
    tree.setAttributes(node, { ...NOTHING, valid: FATTR_ATIME, atime: 3 }, 9600);
    expect(node.atime).toBe(3);
    tree.setAttributes(node, { ...NOTHING, valid: FATTR_ATIME | FATTR_ATIME_NOW, atime: 3 }, 9700);
    expect(node).toMatchObject({ atime: 9700, mtime: 9500 });
  });
});

describe('access', () => {
  test('to write a read-only file is EROFS for everybody', () => {
    const { tree, node } = oneFile(true);
    expect(tree.open(node, 0)).toBe(0);
    expect(tree.open(node, 1)).toBe(EROFS);
    expect(tree.open(node, 2)).toBe(EROFS);
    expect(tree.access(node, 2, 0, 0)).toBe(EROFS);
  });

  test('for root is all that the file system can do', () => {
    const { tree, node } = oneFile();
    expect(tree.access(node, 7, 0, 0)).toBe(0);
    expect(tree.access(oneFile(true).node, 4, 0, 0)).toBe(0);
  });

  test('for an owner without a bit ignores the bits of others', () => {
    const { tree, node } = oneFile();
    tree.setAttributes(node, { ...NOTHING, valid: FATTR_MODE, mode: 0o066 }, 1);
    expect(tree.access(node, 4, 1000, 100)).toBe(EACCES);
    expect(tree.access(node, 4, 5, 100)).toBe(0);
    expect(tree.access(node, 1, 5, 5)).toBe(EACCES);
    expect(tree.access(node, 0, 1000, 100)).toBe(0);
  });

  test('follows the bits of owner, group and others', () => {
    const { tree, node } = oneFile();
    expect(tree.access(node, 2, 1000, 5)).toBe(0);
    expect(tree.access(node, 2, 5, 100)).toBe(EACCES);
    expect(tree.access(node, 4, 5, 5)).toBe(0);
    expect(tree.access(node, 2, 5, 5)).toBe(EACCES);
  });
});
