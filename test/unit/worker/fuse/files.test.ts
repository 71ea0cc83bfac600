// The errors for fsync(2) belong to the file: its disks come and go.

import { expect, test } from 'vitest';
import type { ExportInfo } from '../../../../src/nbd/export-info.js';
import { Files } from '../../../../src/worker/fuse/files.js';
import { Engine, type EngineEvents } from '../../../../src/worker/request/engine.js';

const INFO: ExportInfo = {
  name: 'a',
  size: 1_048_576n,
  flags: 0b101,
  blockSizes: undefined,
  description: undefined,
  canonicalName: undefined,
  structuredReplies: false,
  extendedHeaders: false,
  metaContexts: [],
  handshake: 'fixed-newstyle',
};

/** The files of a mount with `--all`, and the lines for the user. */
function makeFiles(): { files: Files; lines: string[] } {
  const lines: string[] = [];
  const events: EngineEvents = {
    connectionLost: () => undefined,
    connectionClosed: () => undefined,
    connectionAccepted: () => undefined,
    warn: (_disk, text) => lines.push(text),
    wroteBeyondEnd: () => undefined,
    syncWanted: () => undefined,
  };
  const settings = {
    descriptor: -1,
    unflushedLimit: 1_048_576,
    wholeReads: false,
    keepExtents: false,
    kernelHoldsWrites: false,
    largestPayload: 65_536,
    memoryLimit: 16 * 1_048_576,
    settleTime: 0,
  };
  const tree = { uid: 0, gid: 0, umask: 0, now: 0 };
  const files = new Files([], false, tree, new Engine(settings, undefined, events));
  files.add(5, { name: 'a', readOnly: false, info: INFO, server: '', tls: false });
  return { files, lines };
}

test('files: a loss is known after the connections of the file have ended, until an fsync reports it', () => {
  const { files, lines } = makeFiles();
  const disk = files.use(5, INFO);
  disk.node.errors.opened(1);
  disk.lose('the test says so');
  expect(lines).toEqual([expect.stringMatching(/^the test says so: some writes may be lost/)]);
  disk.node.errors.released(1);
  files.retire(disk);
  expect(files.hasUnseenErrors).toBe(true);
  const next = files.use(5, INFO);
  expect(next).not.toBe(disk);
  next.node.errors.opened(2);
  expect([next.takeError(2), next.takeError(2)]).toEqual([5, 0]);
  expect(files.hasUnseenErrors).toBe(false);
});

test('files: a loss is known after the file has disappeared', () => {
  const { files } = makeFiles();
  const disk = files.use(5, INFO);
  disk.lose('the test says so');
  files.remove(5);
  files.retire(disk);
  expect(files.entry(5)).toBeUndefined();
  expect(files.hasUnseenErrors).toBe(true);
});

test('files: a failed FLUSH causes one line until a FLUSH succeeds', () => {
  const { files, lines } = makeFiles();
  const disk = files.use(5, INFO);
  for (let i = 0; i < 3; i++) disk.reportFailedFlush(5);
  expect(lines).toEqual([
    expect.stringMatching(/^the server failed to flush writes \(EIO\): some writes may/),
  ]);
});
