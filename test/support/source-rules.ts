// The rules on the source's shape: who imports whom, how long things are, what is not to be written.
//
// Used by the tidy test. Works on a map from path (`src/nbd/wire.ts`) to text and returns an offence a
// line, so that the test can also show each rule something that breaks it.

import { dirname, posix } from 'node:path';
import { parseSync } from 'vite';

/** Source texts by their path from the root of the repository. */
export type SourceFiles = ReadonlyMap<string, string>;

const MAX_FUNCTION_LINES = 70;

/** Which folder of src may import which others. */
const ARROWS: Readonly<Record<string, readonly string[]>> = {
  nbd: [],
  linux: [],
  fuse: [],
  tls: ['linux'],
  transport: ['nbd', 'linux', 'tls'],
  mount: ['linux'],
  worker: ['nbd', 'fuse', 'linux', 'tls'],
  client: ['nbd', 'transport', 'linux'],
  image: ['nbd', 'transport', 'client'],
  'fuse-native': ['client', 'fuse', 'transport', 'nbd', 'linux'],
  session: ['nbd', 'fuse', 'linux', 'transport', 'mount', 'worker', 'client', 'fuse-native'],
  cli: ['nbd', 'fuse', 'linux', 'transport', 'mount', 'worker', 'client', 'fuse-native', 'session', 'image'],
  shell: ['client', 'nbd'],
  'index.ts': ['client', 'nbd', 'transport'],
};

/** Where the program and the library begin. */
const ENTRIES = [
  'src/index.ts',
  'src/cli/early.ts',
  'src/cli/main.ts',
  'src/shell/main.ts',
  'src/worker/worker.ts',
  'src/worker/read-thread.ts',
];

interface SyntaxNode {
  readonly type: string;
  readonly start: number;
  readonly end: number;
}

interface Import {
  readonly from: string;
  readonly to: string;
  /** Whether it is gone when the program runs. */
  readonly typeOnly: boolean;
}

function isNode(value: unknown): value is SyntaxNode & Record<string, unknown> {
  return typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string';
}

/** Every node of a file, parents first. */
function* nodesOf(path: string, text: string): Generator<SyntaxNode & Record<string, unknown>> {
  const { program, errors } = parseSync(path, text);
  if (errors.length > 0) throw new Error(`${path}: ${errors[0].message}`);
  const stack: unknown[] = [program];
  while (stack.length > 0) {
    const value = stack.pop();
    if (Array.isArray(value)) stack.push(...value);
    else if (isNode(value)) {
      yield value;
      stack.push(...Object.values(value));
    }
  }
}

const IMPORTING = new Set([
  'ImportDeclaration',
  'ExportNamedDeclaration',
  'ExportAllDeclaration',
  'ImportExpression',
]);

function importsOf(path: string, text: string): Import[] {
  const found: Import[] = [];
  for (const node of nodesOf(path, text)) {
    if (!IMPORTING.has(node.type) || !isNode(node.source)) continue;
    const target = String(node.source.value);
    if (!target.startsWith('.')) continue;
    const to = posix.join(dirname(path), target).replace(/\.js$/, '.ts');
    found.push({ from: path, to, typeOnly: node.importKind === 'type' || node.exportKind === 'type' });
  }
  return found;
}

/** What the helpers that start servers and mounts may import: one another, the source, and Node. */
const HELPERS_IMPORT = /^(\.\/|\.\.\/\.\.\/\.\.\/src\/|node:)/;

/** Imports of files in test/support/run that tools, which start servers with them, cannot have: vitest. */
export function testImports(files: SourceFiles): string[] {
  const offences: string[] = [];
  for (const [path, text] of files) {
    for (const node of nodesOf(path, text)) {
      if (!IMPORTING.has(node.type) || !isNode(node.source)) continue;
      const target = String(node.source.value);
      if (!HELPERS_IMPORT.test(target)) offences.push(`${path} must not import ${target}: tools use it, too`);
    }
  }
  return offences;
}

/** The part of src that a file belongs to: `nbd` of src/nbd/wire.ts, `index.ts` of src/index.ts. */
function roomOf(path: string): string {
  return path.split('/')[1] ?? '';
}

/** Imports that go against the arrows, types included. */
export function wrongArrows(files: SourceFiles): string[] {
  const imports = [...files].flatMap(([path, text]) => importsOf(path, text));
  return imports
    .filter(({ from, to }) => roomOf(from) !== roomOf(to))
    .filter(({ from, to }) => !(ARROWS[roomOf(from)] ?? []).includes(roomOf(to)))
    .map(({ from, to }) => `${from} must not import ${to}`);
}

/** Circles of imports that are there when the program runs. */
export function importCircles(files: SourceFiles): string[] {
  const circles: string[] = [];
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    if (trail.includes(path)) circles.push([...trail.slice(trail.indexOf(path)), path].join(' → '));
    if (trail.includes(path) || done.has(path)) return;
    for (const { to, typeOnly } of importsOf(path, files.get(path) ?? ''))
      if (!typeOnly) visit(to, [...trail, path]);
    done.add(path);
  };
  for (const path of files.keys()) visit(path, []);
  return circles;
}

/** Files that nothing reaches from where the program and the library begin. */
export function deadFiles(files: SourceFiles): string[] {
  const reached = new Set<string>();
  const visit = (path: string): void => {
    if (reached.has(path)) return;
    reached.add(path);
    for (const { to } of importsOf(path, files.get(path) ?? '')) visit(to);
  };
  ENTRIES.forEach(visit);
  const isLive = (path: string): boolean => reached.has(path) || path.endsWith('.d.ts');
  return [...files.keys()].filter((path) => !isLive(path)).map((path) => `${path} is imported by nobody`);
}

/** Functions that are too long; a file is as long as its concept. */
export function tooLong(files: SourceFiles): string[] {
  const offences: string[] = [];
  for (const [path, text] of files) {
    for (const { type, start, end } of nodesOf(path, text)) {
      if (!/^(Arrow)?Function(Declaration|Expression)$/.test(type)) continue;
      const lines = text.slice(start, end).split('\n').length;
      const at = text.slice(0, start).split('\n').length;
      if (lines > MAX_FUNCTION_LINES) offences.push(`${path}:${at}: a function of ${lines} lines`);
    }
  }
  return offences;
}

const NOT_WRITTEN: Readonly<Record<string, string>> = {
  TSAnyKeyword: '`any`',
  TSNonNullExpression: 'a non-null `!`',
};

/** Places where the type checker was told to look away. */
export function uncheckedTypes(files: SourceFiles): string[] {
  const offences: string[] = [];
  for (const [path, text] of files) {
    const line = (start: number): number => text.slice(0, start).split('\n').length;
    for (const { type, start } of nodesOf(path, text))
      if (Object.hasOwn(NOT_WRITTEN, type)) offences.push(`${path}:${line(start)}: ${NOT_WRITTEN[type]}`);
    for (const { 0: words, index } of text.matchAll(/@ts-(ignore|expect-error|nocheck)|biome-(?:ignore)/g))
      offences.push(`${path}:${line(index)}: ${words}`);
  }
  return offences;
}

/** A folder of one machine or one user, as it would stand in a text. */
const MACHINE_PATH = /(?<![\w./-])\/(work|home|root|Users)\/[\w.-]+/g;

/** Paths that are right on one machine only. */
export function machinePaths(files: SourceFiles): string[] {
  return [...files].flatMap(([path, text]) =>
    [...text.matchAll(MACHINE_PATH)].map(({ 0: found }) => `${path}: ${found}`),
  );
}
