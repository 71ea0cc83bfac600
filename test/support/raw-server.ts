// A minimal server for wrong handshakes, which the scripted server cannot send.
//
// Used by tests of hostile servers. The test controls each connection from its first byte on.

import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import type { Scope } from './run/scope.js';
import { optionReply, u16, u64 } from './scripted-wire.js';

/** A server on a Unix socket that ends with the scope. */
export interface RawServer {
  readonly socketPath: string;
  readonly uri: string;
  /** Connections so far. */
  readonly connections: readonly Socket[];
}

/** NBDMAGIC, IHAVEOPT, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES. */
export const GREETING = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), u16(0b11)]);

/** Bytes of the client's flags and of an option's header. */
const CLIENT_FLAGS = 4;
const OPTION_HEADER = 16;

/** Starts it; `talk` serves each connection. */
export async function startRawServer(scope: Scope, talk: (socket: Socket) => void): Promise<RawServer> {
  const socketPath = scope.path('raw.socket');
  const connections: Socket[] = [];
  const server = createServer((socket) => {
    connections.push(socket);
    // A client closes the connection after a breach.
    socket.on('error', () => socket.destroy());
    talk(socket);
  });
  scope.add(() => {
    server.close();
    for (const socket of connections) socket.destroy();
  });
  server.listen(socketPath);
  await once(server, 'listening');
  return { socketPath, connections, uri: `nbd+unix:///?socket=${encodeURIComponent(socketPath)}` };
}

/** Greets, and gives each option with its data to `answer`. */
export function answerOptions(socket: Socket, answer: (option: number, data: Buffer) => void): void {
  let heard = Buffer.alloc(0);
  let skip = CLIENT_FLAGS;
  socket.on('data', (bytes: Buffer) => {
    heard = Buffer.concat([heard, bytes]);
    while (heard.length >= skip + OPTION_HEADER) {
      const option = heard.readUInt32BE(skip + 8);
      const end = skip + OPTION_HEADER + heard.readUInt32BE(skip + 12);
      if (heard.length < end) return;
      const data = heard.subarray(skip + OPTION_HEADER, end);
      heard = heard.subarray(end);
      skip = 0;
      answer(option, data);
    }
  });
  socket.write(GREETING);
}

/** A reply to NBD_OPT_GO or NBD_OPT_INFO with size and flags. */
export function exportInfo(option: number, size: bigint, flags = 0b1): Buffer {
  return optionReply(option, 3, Buffer.concat([u16(0), u64(size), u16(flags)]));
}

/** A refusal of an option, with a text. */
export function refusal(option: number, type: number, text: string): Buffer {
  return optionReply(option, type, Buffer.from(text));
}
