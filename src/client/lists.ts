// Lists the exports of a server, and the metadata contexts of an export.
//
// Each call makes a connection of its own, and starts and ends the server if the address says so.

import type { ListedExport } from '../nbd/export-info.js';
import { type NbdServer, openServer } from '../transport/server.js';
import type { ListContextsOptions, ListOptions } from './options.js';
import { endpointOf, type ServerAddress } from './target.js';

async function withServer<T>(
  address: ServerAddress,
  options: ListOptions,
  ask: (server: NbdServer) => Promise<T>,
): Promise<T> {
  const server = await openServer(endpointOf(address, options), { onStderr: options.onStderr });
  try {
    return await ask(server);
  } finally {
    await server.close();
  }
}

/**
 * Lists the exports of a server (proto.md, NBD_OPT_LIST), in its order, at most 10 000; the first 256 with their
 * NBD_OPT_INFO.
 * @throws TransportError, NbdServerError if the server does not list them, NbdProtocolError, or the signal's reason
 */
export function listExports(address: ServerAddress, options: ListOptions = {}): Promise<ListedExport[]> {
  return withServer(address, options, (server) => server.list({ signal: options.signal }));
}

/**
 * Lists the names of an export's metadata contexts (proto.md, NBD_OPT_LIST_META_CONTEXT), in the server's order, at
 * most 10 000, for `metaContexts` of `NbdClient.connect`. A name that ends with a colon may stand for all names with
 * this prefix: pass it as a query to list them.
 * @throws TransportError, NbdServerError if the server has no such export or does not list contexts,
 *   NbdProtocolError, NbdArgumentError for a query without a namespace, or the signal's reason
 */
export function listMetaContexts(
  address: ServerAddress,
  options: ListContextsOptions = {},
): Promise<string[]> {
  return withServer(address, options, (server) =>
    server.listMetaContexts(options.queries ?? [], { signal: options.signal }),
  );
}
