// `nbdfuse cache`: lists, checks, prunes and copies cache files.
//
// Called by main.ts. All texts of an index are escaped, since anybody may have written it.

import { homedir } from 'node:os';
import { join } from 'node:path';
import {
  type CacheSummary,
  exportCache,
  isDirectory,
  listDirectory,
  maintainCache,
  pruneDirectory,
  removeCache,
  summaryOf,
} from '../../chunks/cache/directory.js';
import { printable, printableJson } from '../../nbd/text.js';
import { bytesText, counted } from '../../session/status-text.js';
import type { CacheRequest } from '../arguments/cache-words.js';

/** The directory that `cache list` shows by default. */
function defaultDirectory(environment: NodeJS.ProcessEnv): string {
  const { XDG_CACHE_HOME } = environment;
  // The XDG specification: a relative path counts as unset.
  return join(XDG_CACHE_HOME?.startsWith('/') ? XDG_CACHE_HOME : join(homedir(), '.cache'), 'nbdfuse');
}

/** Rounds down: only a complete cache has 100 %. */
const percent = ({ held, size }: CacheSummary): number =>
  size === 0 ? 100 : Math.floor((100 * held) / size);

function linesOf(cache: CacheSummary): string {
  const { path, identity, size, onDisk, inUse, lastUse } = cache;
  const state = `${percent(cache)} % of ${bytesText(size)}, ${bytesText(onDisk)} on disk${inUse ? ', in use' : ''}`;
  const version = identity.version === '' ? '' : `, version ${printable(identity.version)}`;
  const lines = [
    printable(path),
    `    source: ${printable(identity.source)} (${printable(identity.coding)}${version})`,
    `    holds: ${state}`,
    `    last use: ${new Date(lastUse).toISOString()}`,
  ];
  return `${lines.join('\n')}\n`;
}

const jsonOf = (caches: readonly CacheSummary[]): string =>
  printableJson(
    `${JSON.stringify(
      caches.map((cache) => ({ ...cache, lastUse: new Date(cache.lastUse) })),
      null,
      2,
    )}\n`,
  );

async function list({ paths, json }: CacheRequest, environment: NodeJS.ProcessEnv): Promise<string> {
  const caches: CacheSummary[] = [];
  if (paths.length === 0)
    caches.push(...(await listDirectory(defaultDirectory(environment)).catch(() => [])));
  for (const path of paths) {
    if (await isDirectory(path)) caches.push(...(await listDirectory(path)));
    else {
      const summary = await summaryOf(path);
      if (summary === undefined) throw new Error(`${path} is not a cache file of nbdfuse`);
      caches.push(summary);
    }
  }
  return json ? jsonOf(caches) : caches.map(linesOf).join('');
}

async function verify(path: string): Promise<string> {
  const { units, damaged } = await maintainCache(path, { isChecked: true });
  if (damaged.length === 0) return `${printable(path)}: ${counted(units, 'unit')}, all right\n`;
  const offsets = damaged.slice(0, 5).join(', ');
  const more = damaged.length > 5 ? ', …' : '';
  throw new Error(
    `${path}: ${damaged.length} of ${counted(units, 'unit')} damaged, at offsets ${offsets}${more}; they were removed`,
  );
}

async function prune(path: string, cacheSize: number | undefined): Promise<string> {
  if (await isDirectory(path)) {
    const removed = await pruneDirectory(path, cacheSize ?? 0);
    const bytes = removed.reduce((sum, { onDisk }) => sum + onDisk, 0);
    return `${counted(removed.length, 'cache')} removed, ${bytesText(bytes)}\n`;
  }
  if (cacheSize === undefined) {
    await removeCache(path);
    return `${printable(path)} removed\n`;
  }
  await maintainCache(path, { limit: cacheSize });
  const summary = await summaryOf(path);
  return `${printable(path)}: ${bytesText(summary?.onDisk ?? 0)} on disk\n`;
}

/** Answers a request; returns the text to print. @throws Error: one line each */
export async function runCache(request: CacheRequest, environment: NodeJS.ProcessEnv): Promise<string> {
  const [path = '', out = ''] = request.paths;
  switch (request.action) {
    case 'list':
      return list(request, environment);
    case 'verify':
      return verify(path);
    case 'prune':
      return prune(path, request.cacheSize);
    case 'export': {
      const share = await exportCache(path, out, request.partial);
      return share === 1
        ? ''
        : `${printable(out)} has ${Math.floor(share * 100)} % of the image; the rest is zeros\n`;
    }
  }
}
