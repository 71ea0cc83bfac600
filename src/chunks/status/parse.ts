// Reads a line of the chunk server's control socket. Pure.
//
// The chunk server parses hostile images, so that its lines are checked. Unknown fields are ignored.

import type { ChunkStatus, KeptImage, Writers } from '../contract/status.js';
import { MAX_IMAGE } from '../contract/units.js';

type Fields = Readonly<Record<string, unknown>>;

/** A line that is not a state. */
class BadStatus extends Error {}

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A whole number of 0 or more. @throws BadStatus */
function count(fields: Fields, name: string): number {
  const value = fields[name];
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw new BadStatus(name);
  return value;
}

function optional<T>(fields: Fields, name: string, read: (value: Fields) => T): T | undefined {
  const value = fields[name];
  if (value === undefined) return undefined;
  if (!isFields(value)) throw new BadStatus(name);
  return read(value);
}

const optionalCount = (fields: Fields, name: string): number | undefined =>
  fields[name] === undefined ? undefined : count(fields, name);

function prefetch(fields: Fields): ChunkStatus['prefetch'] {
  const { stopped } = fields;
  if (stopped !== undefined && typeof stopped !== 'string') throw new BadStatus('stopped');
  return { ...progress(fields), stopped };
}

const progress = (fields: Fields) => ({ done: count(fields, 'done'), all: count(fields, 'all') });

function file(fields: Fields): ChunkStatus['file'] {
  const { path, complete } = fields;
  if (typeof path !== 'string' || typeof complete !== 'boolean') throw new BadStatus('file');
  return { path, complete, used: count(fields, 'used'), limit: optionalCount(fields, 'limit') };
}

function memory(fields: Fields): ChunkStatus['memory'] {
  return { used: count(fields, 'used'), limit: count(fields, 'limit') };
}

/** Numbers of processes or of groups; 1 is the first process of the system. @throws BadStatus */
function processes(fields: Fields, name: string): readonly number[] {
  const value = fields[name];
  if (!Array.isArray(value)) throw new BadStatus(name);
  const isGood = value.every((one) => Number.isSafeInteger(one) && one > 1);
  if (!isGood) throw new BadStatus(name);
  return value;
}

const writers = (fields: Fields): Writers => ({
  pids: processes(fields, 'pids'),
  groups: processes(fields, 'groups'),
});

/** The result of `read` for a line; undefined if the line is bad. */
function parse<T>(line: string, read: (fields: Fields) => T): T | undefined {
  try {
    const fields: unknown = JSON.parse(line);
    return isFields(fields) ? read(fields) : undefined;
  } catch (error) {
    if (error instanceof BadStatus || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** The state in a line; undefined if it is none. */
export const parseChunkStatus = (line: string): ChunkStatus | undefined =>
  parse(line, (fields) => {
    const used = optional(fields, 'memory', memory);
    if (used === undefined) return undefined;
    return {
      size: optionalCount(fields, 'size'),
      memory: used,
      file: optional(fields, 'file', file),
      indexing: optional(fields, 'indexing', progress),
      prefetch: optional(fields, 'prefetch', prefetch),
      hits: count(fields, 'hits'),
      misses: count(fields, 'misses'),
      fetched: count(fields, 'fetched'),
    };
  });

/** The processes below that a line names; undefined if they are unknown. */
export const parseWriters = (line: string): Writers | undefined =>
  parse(line, (fields) => optional(fields, 'writers', writers));

const NONCE = /^[0-9a-f]{16}$/;

/** @throws BadStatus */
function keptImage(fields: Fields): KeptImage {
  const { nonce } = fields;
  const [size, offset] = [count(fields, 'size'), count(fields, 'offset')];
  if (typeof nonce !== 'string' || !NONCE.test(nonce) || offset >= size || size > MAX_IMAGE)
    throw new BadStatus('kept');
  return { nonce, size, offset };
}

/** The cache file that a line offers for reading. */
export const parseKept = (line: string): KeptImage | undefined =>
  parse(line, (fields) => optional(fields, 'kept', keptImage));
