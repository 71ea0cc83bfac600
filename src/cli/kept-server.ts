// The chunk server on top of a server that the user named, for --cache-file, --cache-dir, --prefetch and --trace.
//
// Used by main.ts; those of images are in src/image.

import { createHash } from 'node:crypto';
import { isAbsolute } from 'node:path';
import { type Below, chunkWords } from '../image/chunks.js';
import { cacheName, checkKept, keptIn } from '../image/keep.js';
import type { KeepRequest } from '../image/keep-request.js';
import { withoutSecrets } from '../nbd/secrets.js';
import { percentEncode } from '../nbd/uri/percent.js';
import { serverText } from '../session/connect/server-text.js';
import type { ServerMode, Settings } from '../session/settings.js';
import { UsageError } from './errors.js';

/** The server as a URI of the chunk server. @throws UsageError when there is none */
function uriOf(
  server: Exclude<ServerMode, { argv: readonly string[] } | { kind: 'fd' }>,
  name: string,
): string {
  const path = percentEncode(name);
  switch (server.kind) {
    case 'uri':
      return server.uri;
    case 'unix': {
      const socket = isAbsolute(server.path) ? server.path : `${process.cwd()}/${server.path}`;
      return `nbd+unix:///${path}?socket=${percentEncode(socket)}`;
    }
    case 'vsock':
      return `nbd+vsock://${server.cid}:${server.port}/${path}`;
    default: {
      if (typeof server.port === 'string')
        throw new UsageError('a cache needs the number of the port: --tcp HOST PORT');
      const host = server.host.includes(':') ? `[${server.host}]` : server.host;
      return `nbd://${host}:${server.port}/${path}`;
    }
  }
}

/** Where the chunk server gets the bytes, and what tells them apart from those of other servers. */
function belowOf({ server, exportName = '' }: Settings): { readonly below: Below; readonly source: string } {
  if (server.kind === 'fd') throw new Error('the command line refuses --fd with a cache');
  if (!('argv' in server)) {
    const uri = uriOf(server, exportName);
    return { below: { kind: 'nbd', uri }, source: withoutSecrets(uri) };
  }
  if (exportName !== '')
    throw new UsageError('--export cannot be used with a cache and CMD: let CMD serve the export by default');
  const { argv } = server;
  const kind = server.kind === 'command' ? 'command' : 'server';
  const digest = createHash('sha256').update(JSON.stringify(argv)).digest('hex');
  return { below: { kind, argv }, source: `${argv[0]} sha256=${digest}` };
}

/** A server with a chunk server on top. */
interface KeptServer {
  readonly settings: Settings;
  /** Removes the files that the chunk server has made, once it has ended. */
  readonly undo: () => Promise<void>;
}

/** The settings with a chunk server on top of their server. @throws UsageError, ImageError */
export async function keepServer(settings: Settings, keep: KeepRequest): Promise<KeptServer> {
  const { below, source } = belowOf(settings);
  const chunks = keptIn(keep, cacheName(source.replace(/^.*\//, '').replace(/ .*/, ''), [source]));
  const undo = await checkKept(keep, chunks);
  const argv = chunkWords({
    coding: 'plain',
    below,
    identity: { source, version: '' },
    settings: chunks,
    writable: !settings.readOnly,
  });
  const name = serverText(settings.server);
  const server = { kind: 'socket-activation', argv, name } as const;
  return { settings: { ...settings, exportName: undefined, server }, undo };
}
