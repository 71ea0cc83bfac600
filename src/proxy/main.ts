// nbdfuse-proxy: stands between a server that it starts and what stands on top of that.
//
// Called by bin/nbdfuse-proxy, which the command lines of images have (src/transport/proxy.ts). It passes each
// connection on, with three changes: it asks for the export without a name; every READ asks for a whole reply, so that an
// unreadable sector below a qemu-nbd fails one request instead of the connection; and the export may be shown shorter
// than it is. It ends with the server below and with the command that it runs.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { LONGEST_UNIX_PATH } from '../constants/unix-path.js';
import { socketDirectoryToMake } from '../linux/socket-directory.js';
import { writeToStderr } from '../linux/stderr.js';
import { titleWithoutSecrets } from '../nbd/secrets.js';
import { printable } from '../nbd/text.js';
import { SocketActivationSource } from '../transport/socket-activation.js';
import { type ProxyRequest, parseProxyWords } from './arguments.js';
import { ReplyRewriter } from './replies.js';
import { RequestRewriter } from './requests.js';

/** The descriptor of an inherited socket, as sd_listen_fds(3) has it. */
const INHERITED = 3;

function say(error: unknown): void {
  const why = error instanceof Error ? error.message : String(error);
  writeToStderr(`nbdfuse-proxy: ${printable(why)}\n`);
}

/** Bytes that pass through `take`. */
function through(take: (chunk: Buffer) => Buffer): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      try {
        done(null, take(chunk));
      } catch (error) {
        say(error);
        done(error instanceof Error ? error : new Error(String(error)));
      }
    },
  });
}

/** Passes one client's connection on, until either side ends it. */
async function pass(client: Socket, source: SocketActivationSource, size: bigint | undefined): Promise<void> {
  const server = await source.connect(new AbortController().signal);
  const requests = new RequestRewriter();
  const replies = new ReplyRewriter(size);
  const up = through((chunk) => {
    requests.canDf = replies.canDf;
    return requests.take(chunk);
  });
  const down = through((chunk) => replies.take(chunk));
  try {
    await Promise.all([pipeline(client, up, server), pipeline(server, down, client)]);
  } finally {
    server.destroy();
  }
}

/** A path for a socket, in a new directory, that is short enough for QEMU. */
function newSocket(): string {
  const directory = socketDirectoryToMake('nbdfuse-proxy', LONGEST_UNIX_PATH);
  mkdirSync(directory, { mode: 0o700 });
  return join(directory, 'socket');
}

/** Serves the inherited socket, or a new one whose path it returns. */
async function listen(server: Server, { run }: ProxyRequest): Promise<string | undefined> {
  const path = run === undefined ? undefined : newSocket();
  server.listen(path === undefined ? { fd: INHERITED } : { path });
  await once(server, 'listening');
  return path;
}

/** Runs a line of a shell, which gets the inherited socket. */
function runLine(line: string, socket: string): ChildProcess {
  const child = spawn('/bin/sh', ['-c', line], {
    env: { ...process.env, unixsocket: socket },
    stdio: ['ignore', 'inherit', 'inherit', INHERITED],
  });
  // When the program ends, nobody may keep its socket open.
  closeSync(INHERITED);
  return child;
}

async function proxy(request: ProxyRequest): Promise<number> {
  const { server: argv, size, run } = request;
  const stopped = once(process, 'SIGTERM');
  const source = await SocketActivationSource.open({ argv, onStderr: writeToStderr });
  const server = createServer({ allowHalfOpen: true }, (client) => {
    // A client that breaks off is no error.
    client.on('error', () => undefined);
    pass(client, source, size).catch(() => client.destroy());
  });
  const path = await listen(server, request);
  const child = run === undefined || path === undefined ? undefined : runLine(run, path);
  try {
    const ends = [source.child.exited.then(({ status }) => status ?? 1), stopped.then(() => 0)];
    if (child !== undefined) ends.push(once(child, 'exit').then(([status]) => status ?? 1));
    return await Promise.race(ends);
  } finally {
    child?.kill();
    server.close();
    if (path !== undefined) rmSync(dirname(path), { recursive: true, force: true });
    await source.close();
  }
}

async function main(): Promise<void> {
  const words = process.argv.slice(2);
  const title = titleWithoutSecrets('nbdfuse-proxy', words);
  if (title !== undefined) process.title = title;
  try {
    process.exit(await proxy(parseProxyWords(words)));
  } catch (error) {
    say(error);
    process.exit(1);
  }
}

void main();
