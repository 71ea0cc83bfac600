// Recognizes an export of an NBD server that is the disk itself, so that it needs no other server.

import { chooseFormat } from './choice.js';
import { wantsKept } from './keep-request.js';
import { lookAtDisk, withDisk } from './look.js';
import type { ImageRequest } from './prepare.js';
import { isNbdUri } from './scheme.js';
import { nameOf, parseSource } from './source.js';

/** Whether a request asks for a part of an image, for other bytes than those of the export, or for their keeping. */
function needsServer(request: ImageRequest): boolean {
  const { member, snapshotName, partition, overlay, keyFile, share, keep } = request;
  const parts = [member, snapshotName, partition, overlay, keyFile];
  return share || parts.some((part) => part !== undefined) || wantsKept(keep);
}

/**
 * Whether an image is an export as it is.
 * @throws ImageError where name and content disagree; TransportError, NbdServerError, NbdProtocolError
 */
export async function isExportItself(
  request: ImageRequest,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const { name, requested } = request;
  if (!isNbdUri(name) || needsServer(request) || requested.compression !== undefined) return false;
  if (requested.format !== undefined) return requested.format === 'raw';
  const source = parseSource(name);
  if (source.kind !== 'nbd') return false;
  const { head, tail } = await withDisk(source.uri, signal, lookAtDisk);
  const shown = nameOf(source);
  return chooseFormat({ name: shown === '' ? 'the export' : shown, head, tail }, requested) === 'raw';
}
