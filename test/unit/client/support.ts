// Clients of real and scripted servers that are closed when the test ends.

import { chmodSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type ConnectOptions, NbdClient, type ServerAddress } from '../../../src/index.js';
import { createScope, scratchFolder } from '../../support/cleanup.js';
import { hex } from '../../support/hex.js';
import { NBD_CMD_WRITE } from '../../support/nbd-numbers.js';
import { startRawServer } from '../../support/raw-server.js';

/** Address of an nbdkit that serves one connection on its standard input and output. */
export const nbdkit = (...args: string[]) => ({ command: ['nbdkit', '-s', ...args] });

/** An nbdkit with the sh plugin and this script, as an address. */
export function shell(script: string) {
  const path = join(scratchFolder(), 'plugin');
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return nbdkit('sh', path);
}

/** Connects; the client is closed after the test. Drops the standard error of children. */
export async function connect(address: ServerAddress, options: ConnectOptions = {}): Promise<NbdClient> {
  const client = await NbdClient.connect(address, { onStderr: () => undefined, ...options });
  onTestFinished(() => client.close());
  return client;
}

/** A request as a scripted server sees it. */
export interface SeenRequest {
  readonly flags: number;
  readonly type: number;
  readonly cookie: Buffer;
  readonly offset: bigint;
  readonly length: number;
  readonly payload: Buffer;
}

/** Cuts a stream into things of known length: calls `take` with the next `need()` bytes. */
export function framed(socket: Socket, need: (held: Buffer) => number, take: (frame: Buffer) => void): void {
  let held = Buffer.alloc(0);
  socket.on('data', (chunk) => {
    held = Buffer.concat([held, chunk]);
    for (let count = need(held); count > 0 && held.length >= count; count = need(held)) {
      const frame = held.subarray(0, count);
      held = held.subarray(count);
      take(frame);
    }
  });
}

/**
 * A server of the oldstyle handshake, whose export has 1 MiB and the flags given; `serve` answers
 * compact requests. Returns its address.
 */
export async function oldstyleServer(
  flags: number,
  serve: (request: SeenRequest, socket: Socket) => void,
): Promise<ServerAddress> {
  const flagBytes = Buffer.alloc(4);
  flagBytes.writeUInt32BE(flags);
  const { socketPath } = await startRawServer(createScope(), (socket) => {
    socket.write(hex`
      "NBDMAGIC"         | magic
      0000420281861253   | oldstyle magic
      0000000000100000   | size
      ${flagBytes}       | flags
      00*124             | reserved
    `);
    framed(
      socket,
      (held) =>
        held.length < 28 ? 28 : held.readUInt16BE(6) === NBD_CMD_WRITE ? 28 + held.readUInt32BE(24) : 28,
      (frame) =>
        serve(
          {
            flags: frame.readUInt16BE(4),
            type: frame.readUInt16BE(6),
            cookie: Buffer.from(frame.subarray(8, 16)),
            offset: frame.readBigUInt64BE(16),
            length: frame.readUInt32BE(24),
            payload: frame.subarray(28),
          },
          socket,
        ),
    );
  });
  return { unix: socketPath };
}

/** A simple reply, written out by hand. */
export function simpleReply(
  cookie: Uint8Array,
  error = 0,
  payload: Uint8Array = Buffer.alloc(0),
): Uint8Array {
  const errorBytes = Buffer.alloc(4);
  errorBytes.writeUInt32BE(error);
  return hex`
    67446698       | simple reply magic
    ${errorBytes}  | error
    ${cookie}      | cookie
    ${payload}     | payload
  `;
}
