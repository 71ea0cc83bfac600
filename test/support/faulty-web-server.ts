// A web server for one file, with one fault. Listens on a port of the system's choice.
//
// Used by the tests of images on web servers. Without a fault it answers as nginx does: HEAD, ranges, ETag,
// Last-Modified and conditional requests.

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Scope } from './run/scope.js';

/** An answer of the server, before it is sent. */
export interface WebAnswer {
  status: number;
  headers: OutgoingHttpHeaders;
  body: Buffer;
}

/** A request, as faults see it. */
export interface WebRequest {
  readonly method: string;
  /** The path with the query. */
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  /** The first byte of the range; undefined without a range. */
  readonly first: number | undefined;
  /** Number of requests before this one. */
  readonly count: number;
}

/** Changes an answer; `drop` closes the connection instead. */
export type WebFault = (answer: WebAnswer, request: WebRequest, file: Buffer) => unknown;

/** A web server that serves. */
export interface FaultyWebServer {
  readonly port: number;
  /** `http://127.0.0.1:PORT/NAME` */
  readonly url: string;
  readonly requests: readonly WebRequest[];
  /** The file; a test may exchange it. */
  file: Buffer;
  fault: WebFault | undefined;
  /** Refuses connections until `comeBack`. */
  goAway(): Promise<void>;
  /** Listens at the same port again. */
  comeBack(): Promise<void>;
}

const ETAG = '"a-1"';
const MODIFIED = 'Fri, 27 Nov 2026 10:00:00 GMT';

/** The right answer. */
function answerTo({ headers, first, method }: WebRequest, range: string, file: Buffer): WebAnswer {
  const common = { 'Accept-Ranges': 'bytes', ETag: ETAG, 'Last-Modified': MODIFIED };
  if ((headers['if-match'] ?? ETAG) !== ETAG) return { status: 412, headers: common, body: Buffer.alloc(0) };
  if (first === undefined || method === 'HEAD') return { status: 200, headers: common, body: file };
  const end = Number(/-(\d+)$/.exec(range)?.[1] ?? file.length - 1);
  const last = Math.min(end, file.length - 1);
  const place = { 'Content-Range': `bytes ${first}-${last}/${file.length}` };
  return { status: 206, headers: { ...common, ...place }, body: file.subarray(first, last + 1) };
}

/** Serves `file` under any name until the scope ends. @param pki a folder of certificates: with TLS */
export async function startFaultyWebServer(
  scope: Scope,
  file: Buffer,
  fault?: WebFault,
  name = 'disk.img',
  pki?: string,
): Promise<FaultyWebServer> {
  const requests: WebRequest[] = [];
  const handle = (message: IncomingMessage, response: ServerResponse): void => {
    const range = message.headers.range ?? '';
    const start = /^bytes=(\d+)-/.exec(range)?.[1];
    const { method = '', url = '', headers } = message;
    const first = start === undefined ? undefined : Number(start);
    const request = { method, url, headers, first, count: requests.length };
    requests.push(request);
    const answer = answerTo(request, range, served.file);
    if (served.fault?.(answer, request, served.file) === 'drop') {
      message.socket.destroy();
      return;
    }
    const all = { 'Content-Length': answer.body.length, ...answer.headers };
    const given = Object.entries(all).filter(([, value]) => value !== undefined);
    response.writeHead(answer.status, Object.fromEntries(given));
    response.end(method === 'HEAD' ? undefined : answer.body);
  };
  const pem = (kind: string): Buffer => readFileSync(`${pki}/server-${kind}.pem`);
  const server =
    pki === undefined
      ? createServer(handle)
      : createTlsServer({ key: pem('key'), cert: pem('cert') }, handle);
  scope.add(() => {
    server.closeAllConnections();
    server.close();
  });
  server.listen(0, pki === undefined ? '127.0.0.1' : undefined);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const place = pki === undefined ? 'http://127.0.0.1' : 'https://localhost';
  const goAway = async (): Promise<void> => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  };
  const comeBack = async (): Promise<void> => {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
  };
  const served = { port, url: `${place}:${port}/${name}`, requests, file, fault, goAway, comeBack };
  return served;
}
