// A web server for one file that knows ranges.
//
// Used by the tests that let nbdkit read an image over HTTP. Listens on a port of the system's choice,
// answers GET and HEAD, clamps a range's end to the file, and counts what it sent.

import { once } from 'node:events';
import { createReadStream, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Scope } from './run/scope.js';

/** A web server that serves. */
export interface HttpRangeServer {
  readonly url: string;
  /** Bytes of the file that clients requested so far. */
  readonly sent: number;
}

/** The first and last byte that a request names, within a file of `size` bytes. */
function rangeOf(request: IncomingMessage, size: number): { first: number; last: number } {
  const found = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  if (found === null) return { first: 0, last: size - 1 };
  const last = found[2] === '' ? size - 1 : Math.min(Number(found[2]), size - 1);
  return { first: Number(found[1]), last };
}

function headersFor(first: number, last: number, size: number): Record<string, string | number> {
  const headers = { 'Accept-Ranges': 'bytes', 'Content-Length': last - first + 1 };
  return { ...headers, 'Content-Range': `bytes ${first}-${last}/${size}` };
}

/** Serves one file under one name until the scope ends. */
export async function startHttpRangeServer(
  scope: Scope,
  file: string,
  name = 'image.xz',
): Promise<HttpRangeServer> {
  const { size } = statSync(file);
  let sent = 0;
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    if (request.url?.split('?')[0] !== `/${name}`) {
      response.writeHead(404, { 'Content-Length': 0 }).end();
      return;
    }
    const { first, last } = rangeOf(request, size);
    response.writeHead(request.headers.range === undefined ? 200 : 206, headersFor(first, last, size));
    if (request.method === 'HEAD') {
      response.end();
      return;
    }
    sent += last - first + 1;
    createReadStream(file, { start: first, end: last }).pipe(response);
  });
  scope.add(() => {
    server.closeAllConnections();
    server.close();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/${name}`,
    get sent() {
      return sent;
    },
  };
}
