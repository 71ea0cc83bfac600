// An NBD server whose replies the test controls: it may answer, corrupt, delay, or die.
//
// Used by tests that no real server can serve. Listens on a Unix socket in a scope's folder. Each request
// goes to the test's handler with a ReplyWriter. Requests of one connection come in their order, but a
// waiting handler does not delay later requests.

import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_DISC,
  NBD_CMD_READ,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
} from './nbd-numbers.js';
import type { Scope } from './run/scope.js';
import { type Agreed, type ScriptedExport, shakeHands } from './scripted-handshake.js';
import {
  ByteReader,
  extendedChunk,
  readRequest,
  type ScriptedRequest,
  shortText,
  simpleReply,
  structuredChunk,
  u32,
  u64,
} from './scripted-wire.js';

const DONE = 1;

/** Writes the replies to one request. */
export class ReplyWriter {
  readonly socket: Socket;
  readonly agreed: Agreed;
  readonly #request: ScriptedRequest;

  constructor(socket: Socket, agreed: Agreed, request: ScriptedRequest) {
    this.socket = socket;
    this.agreed = agreed;
    this.#request = request;
  }

  /** Any bytes, correct or wrong. */
  raw(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  /** Ends the connection without further bytes. */
  drop(): void {
    this.socket.destroy();
  }

  /** A chunk of a reply in the negotiated form. */
  chunk(type: number, payload: Uint8Array, isLast: boolean): void {
    const { cookie, offset } = this.#request;
    const flags = isLast ? DONE : 0;
    if (this.agreed.extended) this.raw(extendedChunk(flags, type, cookie, offset, payload));
    else this.raw(structuredChunk(flags, type, cookie, payload));
  }

  /** Success, without data. */
  ok(): void {
    if (this.agreed.structured) this.chunk(NBD_REPLY_TYPE_NONE, Buffer.alloc(0), true);
    else this.raw(simpleReply(this.#request.cookie, 0));
  }

  /** Success of a read. */
  data(bytes: Uint8Array): void {
    if (this.agreed.structured) this.dataChunk(this.#request.offset, bytes, true);
    else this.raw(simpleReply(this.#request.cookie, 0, bytes));
  }

  /** A part of the data of a READ. */
  dataChunk(offset: bigint, bytes: Uint8Array, isLast = false): void {
    this.chunk(NBD_REPLY_TYPE_OFFSET_DATA, Buffer.concat([u64(offset), bytes]), isLast);
  }

  /** A part of the data of a READ that is zeros. */
  holeChunk(offset: bigint, length: number, isLast = false): void {
    this.chunk(NBD_REPLY_TYPE_OFFSET_HOLE, Buffer.concat([u64(offset), u32(length)]), isLast);
  }

  /** The extents of one meta context, each its length and its flags. */
  status(context: number, extents: readonly (readonly [number, number])[], isLast: boolean): void {
    if (this.agreed.extended) {
      const payload = [u32(context), u32(extents.length), ...extents.flat().map(u64)];
      this.chunk(NBD_REPLY_TYPE_BLOCK_STATUS_EXT, Buffer.concat(payload), isLast);
    } else {
      const payload = [u32(context), ...extents.flat().map(u32)];
      this.chunk(NBD_REPLY_TYPE_BLOCK_STATUS, Buffer.concat(payload), isLast);
    }
  }

  /** Failure with an NBD errno. */
  error(errno: number, text = ''): void {
    if (this.agreed.structured)
      this.chunk(NBD_REPLY_TYPE_ERROR, Buffer.concat([u32(errno), shortText(text)]), true);
    else this.raw(simpleReply(this.#request.cookie, errno));
  }
}

/** Handles a request for the test. */
export type RequestHandler = (request: ScriptedRequest, reply: ReplyWriter) => unknown;

/** A server that listens, and can stop for a while. */
export class ScriptedServer {
  readonly socketPath: string;
  /** Every request so far, NBD_CMD_DISC included. */
  readonly requests: ScriptedRequest[] = [];
  /** The negotiated terms of each client that finished the handshake. */
  readonly clients: Agreed[] = [];
  /** Errors of invalid requests and of handlers. The scope's end throws the first. */
  readonly failures: unknown[] = [];
  handler: RequestHandler;
  served: ScriptedExport;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;

  constructor(socketPath: string, served: ScriptedExport, handler: RequestHandler) {
    this.socketPath = socketPath;
    this.served = served;
    this.handler = handler;
  }

  /** The words for nbdfuse. */
  get uri(): string {
    return `nbd+unix:///?socket=${encodeURIComponent(this.socketPath)}`;
  }

  async listen(): Promise<void> {
    rmSync(this.socketPath, { force: true });
    this.#server = createServer((socket) => this.#accept(socket));
    this.#server.listen(this.socketPath);
    await once(this.#server, 'listening');
  }

  /** Dies: closes every connection at once and stops listening until the next call of listen(). */
  die(): void {
    this.#server?.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    const reader = new ByteReader();
    socket.on('data', (bytes: Buffer) => reader.push(bytes));
    socket.on('error', () => reader.end()).on('end', () => reader.end());
    socket.on('close', () => {
      reader.end();
      this.#sockets.delete(socket);
    });
    this.#serve(socket, reader).catch((error: unknown) => {
      this.failures.push(error);
      socket.destroy();
    });
  }

  async #serve(socket: Socket, reader: ByteReader): Promise<void> {
    const agreed = await shakeHands(reader, (bytes) => socket.write(bytes), this.served);
    if (agreed === undefined) {
      socket.end();
      return;
    }
    const connection = this.clients.push(agreed) - 1;
    for (;;) {
      const request = await readRequest(reader, connection, agreed.extended);
      if (request === undefined) return;
      this.requests.push(request);
      if (request.type === NBD_CMD_DISC) {
        socket.end();
        // "NBD_CMD_DISC": the client must not send anything after it.
        if ((await reader.take(1)) !== undefined) throw new Error('the client went on after NBD_CMD_DISC');
        return;
      }
      const reply = new ReplyWriter(socket, agreed, request);
      Promise.resolve()
        .then(() => this.handler(request, reply))
        .catch((error: unknown) => this.failures.push(error));
    }
  }
}

/** Answers every request with success: READs with zeros, BLOCK_STATUS with one data extent. */
export function answerAll(request: ScriptedRequest, reply: ReplyWriter): void {
  const { contexts } = reply.agreed;
  if (request.type === NBD_CMD_READ) reply.data(Buffer.alloc(request.length));
  else if (request.type === NBD_CMD_BLOCK_STATUS)
    contexts.forEach((context, i) => {
      reply.status(context, [[request.length, 0]], i === contexts.length - 1);
    });
  else reply.ok();
}

/** Starts a server that ends with the scope. */
export async function startScriptedServer(
  scope: Scope,
  served: ScriptedExport,
  handler: RequestHandler = answerAll,
): Promise<ScriptedServer> {
  const server = new ScriptedServer(scope.path('scripted.socket'), served, handler);
  scope.add(() => {
    server.die();
    if (server.failures.length > 0) throw server.failures[0];
  });
  await server.listen();
  return server;
}
