// The interface of a worker to everything outside its own memory: the operating system, connections, the main thread.
//
// The simulator (tools/simulate) has its own, so that one seed replays a history exactly.

import type { MessagePort } from 'node:worker_threads';
import { PART } from '../chunks/cache/cache-index.js';
import { PartReader } from '../chunks/cache/part-reader.js';
import { libc } from '../linux/libc.js';
import { PeerProcesses } from '../linux/peer.js';
import { PollSet } from '../linux/poll.js';
import { ReadNow } from '../linux/read-now.js';
import type { Channel } from './connection/channel.js';
import { openChannel } from './connection/open-channel.js';
import type { ZeroCopySender } from './connection/zero-copy.js';
import { type Call, type Send, sender } from './contract/call.js';
import type { FileAttachment, FromWorker, KeptFiles, ToWorker } from './contract/messages.js';
import { REAL_SYSTEM, type System } from './device/system.js';
import type { Poller } from './loop/loop.js';
import { takeCalls } from './loop/thread.js';
import type { KeptParts } from './request/kept-file.js';

/** See the file's head. */
export interface World {
  readonly system: System;
  readonly poll: Poller;
  /** Opens the channel of a connection that an `attach` hands over. */
  openChannel(attachment: FileAttachment, zeroCopy: ZeroCopySender): Channel;
  /** Opens a cache file, which owns its descriptors then. */
  openKept(files: KeptFiles): KeptParts;
  /** Passes the main thread's calls since the last time to `take`. */
  takeCalls(take: (call: Call<ToWorker>) => void): void;
  readonly send: Send<FromWorker>;
}

/** Descriptors that one loop can wait for. */
const POLL_CAPACITY = 4096;

function openKept({ image, data, index }: KeptFiles): KeptParts {
  const parts = new PartReader({ data: new ReadNow(data), index: new ReadNow(index) }, image);
  return {
    most: PART,
    unitOf: (offset) => parts.unitOf(offset),
    read: (offset, length, buffer, start) => parts.read(offset, length, buffer, start),
    close: () => {
      libc.close(data);
      libc.close(index);
    },
  };
}

/** The world of a worker in a thread. @param wake read end of the pipe by which the main thread wakes it */
export function realWorld(port: MessagePort, wake: number): World {
  const peers = new PeerProcesses();
  return {
    system: REAL_SYSTEM,
    poll: new PollSet(POLL_CAPACITY),
    openChannel: (attachment, zeroCopy) => openChannel(attachment, zeroCopy, peers),
    openKept,
    takeCalls: (take) => takeCalls<ToWorker>(port, wake, take),
    send: sender((call) => port.postMessage(call)),
  };
}
