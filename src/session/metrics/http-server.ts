// The HTTP server of --metrics: GET and HEAD of /metrics, for Prometheus.
//
// Runs on the main thread. Loaded only with --metrics, since node:http takes as long to load as half of the start.
// Anybody who reaches the address may connect, so that connections, headers and time are limited.

import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { CONTENT_TYPES, type MetricsFormat } from './exposition.js';

/** Connections at once; more are closed at once. */
const MAX_CONNECTIONS = 16;
/** Bytes of the head of a request. */
const MAX_HEADER = 8192;
/** Milliseconds for a request to arrive. */
const REQUEST_TIME = 5000;
/** Milliseconds for which a connection may be idle. Prometheus asks again after 15 s or later. */
const IDLE_TIME = 1000;
/** Milliseconds between two looks for connections that are late. */
const CHECK_TIME = 1000;

/** Makes the text of an answer. A rejection is the answer that there is none now. */
export type MetricsSource = (format: MetricsFormat) => Promise<string>;

/** A metrics server that listens. */
export interface MetricsServer {
  /** The TCP port; undefined for a Unix socket. */
  readonly port: number | undefined;
  /** Ends all connections. */
  close(): Promise<void>;
}

/** The format for an Accept header: OpenMetrics for a client that names it, since `promtool` and others cannot read it. */
function formatFor(accept = ''): MetricsFormat {
  return accept.includes('application/openmetrics-text') ? 'openmetrics' : 'prometheus';
}

function refuse(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, {
    'Content-Type': 'text/plain; charset=utf-8',
    ...(status === 405 ? { Allow: 'GET, HEAD' } : {}),
    Connection: 'close',
  });
  response.end(`${text}\n`);
}

function isMetricsPath({ url = '' }: IncomingMessage): boolean {
  return url === '/metrics' || url.startsWith('/metrics?');
}

/** Answers the requests for metrics, and refuses all others. */
function answerWith(source: MetricsSource): RequestListener {
  return (request, response) => {
    // A body is not read.
    if (request.method !== 'GET' && request.method !== 'HEAD') refuse(response, 405, 'only GET and HEAD');
    else if (!isMetricsPath(request)) refuse(response, 404, 'the metrics are at /metrics');
    else {
      const format = formatFor(request.headers.accept);
      source(format).then(
        (text) => {
          const body = Buffer.from(text);
          response.writeHead(200, { 'Content-Type': CONTENT_TYPES[format], 'Content-Length': body.length });
          response.end(request.method === 'HEAD' ? undefined : body);
        },
        () => refuse(response, 503, 'the mount does not answer'),
      );
    }
  };
}

/** Begins to listen. @throws NodeJS.ErrnoException when the address cannot be used */
export async function startMetricsServer(
  where: { readonly host: string; readonly port: number } | { readonly fd: number },
  source: MetricsSource,
): Promise<MetricsServer> {
  const server = createServer(
    {
      maxHeaderSize: MAX_HEADER,
      headersTimeout: REQUEST_TIME,
      requestTimeout: REQUEST_TIME,
      keepAliveTimeout: IDLE_TIME,
      connectionsCheckingInterval: CHECK_TIME,
    },
    answerWith(source),
  );
  server.maxConnections = MAX_CONNECTIONS;
  // A client that does not read its answer.
  server.setTimeout(REQUEST_TIME, (socket) => socket.destroy());
  server.listen(where);
  await once(server, 'listening');
  // accept(2) may fail for want of descriptors: the clients wait.
  server.on('error', () => undefined);
  const address = server.address();
  return {
    port: typeof address === 'object' ? address?.port : undefined,
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
