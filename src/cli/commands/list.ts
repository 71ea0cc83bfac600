// --list: the exports of a server, as text for people or as JSON for programs.
//
// Called by main.ts. Connects, lists the exports, and ends the server if nbdfuse has started it; a signal ends it too.
// Pure functions make the texts.

import { existsSync } from 'node:fs';
import type { ListedExport } from '../../nbd/export-info.js';
import { transmissionFlagNames } from '../../nbd/names.js';
import { printable, printableJson } from '../../nbd/text.js';
import { percentBytes } from '../../nbd/uri/percent.js';
import { endpointOf } from '../../session/connect/endpoint.js';
import type { Report, ServerMode } from '../../session/settings.js';
import { UNITS } from '../../session/status-text.js';
import { PLAIN, type Style, styleFor } from '../../session/style.js';
import { openServer } from '../../transport/server.js';
import type { Listing } from '../arguments/arguments.js';
import { UsageError } from '../errors.js';
import { untilSignal } from '../signals.js';
import { announceServer, announceWait } from '../waiting.js';

/**
 * Asks the server and returns the text to print.
 * @throws NbdError for a bad URI; TransportError, NbdServerError, NbdProtocolError: one line each
 */
export async function listExports(listing: Listing, report: Report): Promise<string> {
  refuseImage(listing.server);
  const endpoint = endpointOf({ server: listing.server, exportName: undefined }, report);
  const announce = (): void => void announceServer(listing.server, report);
  const exports = await untilSignal(async (signal) => {
    const server = await openServer(endpoint, { onStderr: report.serverSaid });
    try {
      return await announceWait(server.list({ signal }), announce);
    } finally {
      await server.close();
    }
  });
  return listing.json
    ? exportsAsJson(exports)
    : exportsAsText(exports, styleFor(process.stdout, process.env));
}

/** @throws UsageError for a file in the place of a server */
function refuseImage(server: ServerMode): void {
  if (server.kind !== 'uri' || server.uri.includes('://') || !existsSync(server.uri)) return;
  const name = printable(server.uri);
  throw new UsageError(
    `${name} is a file, and --list shows the exports of a server: mount it, nbdfuse MOUNTPOINT ${name}`,
  );
}

/** 1048576 as `1 MiB`: the largest unit of which it is a whole number; undefined below 1 KiB. */
function inUnits(size: bigint): string | undefined {
  let unit = 0;
  let count = size;
  while (count >= 1024n && count % 1024n === 0n && unit < UNITS.length - 1) {
    count /= 1024n;
    unit++;
  }
  return unit === 0 ? undefined : `${count} ${UNITS[unit]}`;
}

/** The name as a URI has it. */
function nameInUri(name: string): string {
  return name.replace(/[^\w.~/-]/gu, percentBytes);
}

function linesOf({ name, description, info }: ListedExport, style: Style): string[] {
  const lines = [`export ${style.bold(`"${printable(name)}"`)}`];
  const add = (label: string, value: string): void =>
    void lines.push(`    ${style.dim(`${label}:`)} ${value}`);
  // Neither a terminal nor an argument of this program can have such a name.
  if (/\p{Cs}/u.test(name)) add('name in a URI', nameInUri(name));
  const text = description ?? info?.description;
  if (text !== undefined) add('description', printable(text));
  if (info === undefined) return [...lines, '    the server gives no details'];
  if (info.canonicalName !== undefined && info.canonicalName !== name) {
    add('canonical name', `"${printable(info.canonicalName)}"`);
  }
  const rounded = inUnits(info.size);
  add('size', `${info.size} bytes${rounded === undefined ? '' : ` (${rounded})`}`);
  add('flags', transmissionFlagNames(info.flags).join(' '));
  const sizes = info.blockSizes;
  const limits = sizes && `minimum ${sizes.minimum}, preferred ${sizes.preferred}, maximum ${sizes.maximum}`;
  add('block sizes', limits ?? 'not advertised');
  return lines;
}

/** A paragraph for each export, with the server's texts escaped. */
export function exportsAsText(exports: readonly ListedExport[], style: Style = PLAIN): string {
  if (exports.length === 0) return 'the server lists no exports\n';
  return exports.map((one) => `${linesOf(one, style).join('\n')}\n`).join('\n');
}

/** Unknown values are null. JSON.stringify cannot write a bigint, so sizes are inserted as digits. */
function jsonOf({ name, description, info }: ListedExport): string {
  const members = {
    name: JSON.stringify(name),
    description: JSON.stringify(description ?? info?.description ?? null),
    canonicalName: JSON.stringify(info?.canonicalName ?? null),
    size: String(info?.size ?? null),
    flags: JSON.stringify(info === undefined ? null : transmissionFlagNames(info.flags)),
    blockSizes: JSON.stringify(info?.blockSizes ?? null),
  };
  const lines = Object.entries(members).map(([key, value]) => `      "${key}": ${value}`);
  return `    {\n${lines.join(',\n')}\n    }`;
}

/** One object with the member `exports`, whose sizes may be too large for a double. */
export function exportsAsJson(exports: readonly ListedExport[]): string {
  if (exports.length === 0) return '{ "exports": [] }\n';
  return printableJson(`{\n  "exports": [\n${exports.map(jsonOf).join(',\n')}\n  ]\n}\n`);
}
