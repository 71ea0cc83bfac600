// The web server of the cases of lazy images, a program: node web-server.js FOLDER MILLISECONDS
//
// Serves the files of a folder by their names, with ranges, and begins each response that many milliseconds after
// the request, as a server far away would. Connections stay open, any number of requests wait at once, and bytes
// flow as fast as they are read. Prints `port N` when it listens.

import { createReadStream, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const [folder = '.', milliseconds = '0'] = process.argv.slice(2);

/** Bytes that are read at once. */
const STEP = 2 ** 20;

/** The first and last byte that a request names, within a file of `size` bytes; undefined: the whole file. */
function rangeOf(request: IncomingMessage, size: number): { first: number; last: number } | undefined {
  const found = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  if (found === null) return undefined;
  return { first: Number(found[1]), last: found[2] === '' ? size - 1 : Math.min(Number(found[2]), size - 1) };
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  await pause(Number(milliseconds));
  const path = join(folder, basename(new URL(request.url ?? '/', 'http://host').pathname));
  const found = statSync(path, { throwIfNoEntry: false });
  if (found?.isFile() !== true) {
    response.writeHead(404, { 'Content-Length': 0 }).end();
    return;
  }
  const { size, mtime } = found;
  const range = rangeOf(request, size);
  const { first, last } = range ?? { first: 0, last: size - 1 };
  response.writeHead(range === undefined ? 200 : 206, {
    'Accept-Ranges': 'bytes',
    'Content-Length': last - first + 1,
    ETag: `"${size}-${mtime.getTime()}"`,
    'Last-Modified': mtime.toUTCString(),
    ...(range !== undefined && { 'Content-Range': `bytes ${first}-${last}/${size}` }),
  });
  if (request.method === 'HEAD') response.end();
  else createReadStream(path, { start: first, end: last, highWaterMark: STEP }).pipe(response);
}

const server = createServer({ keepAliveTimeout: 600_000 }, (request, response) => {
  answer(request, response).catch((error: unknown) => {
    console.error(error);
    response.destroy();
  });
});
server.listen(0, '127.0.0.1', () => console.log(`port ${(server.address() as AddressInfo).port}`));
