// The rules for the shape of the source: imports, lengths, and forbidden constructs.
//
// Used by the tidy test. Works on a map from path (`src/nbd/wire.ts`) to text and returns one line per
// offence, so that a test can also apply each rule to an example that breaks it.

import { dirname, posix } from 'node:path';
import { parseSync } from 'vite';

/** Source texts by their path from the root of the repository. */
export type SourceFiles = ReadonlyMap<string, string>;

const MAX_FUNCTION_LINES = 70;
const MAX_PARAMETERS = 5;
/** Implements functions whose parameters fuse-native decides. */
const FOREIGN_SIGNATURES = 'src/fuse-native/operations.ts';

const PROTOCOLS = ['nbd', 'fuse', 'linux', 'tls'];
const WORKER = [
  'memory',
  'stats',
  'contract',
  'device',
  'flight',
  'connection',
  'disk',
  'request',
  'fuse',
  'loop',
];
/**
 * The first rooms of the worker, up to one, in the order of the data path: each may import those before it.
 */
const workerUpTo = (last: string): string[] =>
  WORKER.slice(0, WORKER.indexOf(last) + 1).map((room) => `worker/${room}`);

const without = (rooms: readonly string[], ...some: readonly string[]): string[] =>
  rooms.filter((room) => !some.includes(room));

/**
 * The rooms of src and their allowed imports, the lowest first. A room is a folder of src; the folders of
 * src/worker and src/chunks are rooms of their own. docs/internals/architecture.md shows this table.
 */
export const ROOMS: Readonly<Record<string, readonly string[]>> = {
  constants: [],
  nbd: [],
  linux: [],
  fuse: [],
  partitions: [],
  tls: ['linux'],
  transport: ['nbd', 'linux', 'tls'],
  mount: ['linux'],
  client: ['nbd', 'linux', 'transport'],
  image: [
    'nbd',
    'linux',
    'partitions',
    'transport',
    'client',
    'chunks/contract',
    'chunks/cache',
    'chunks/status',
  ],
  proxy: ['nbd', 'linux', 'transport'],
  'fuse-native': ['nbd', 'fuse', 'linux', 'transport', 'client'],
  'worker/memory': ['fuse', 'linux'],
  'worker/stats': [],
  'worker/contract': [...PROTOCOLS, 'chunks/contract'],
  'worker/device': ['fuse', 'linux', 'worker/memory'],
  'worker/flight': ['nbd', 'fuse', 'linux', 'worker/memory', 'worker/device'],
  'worker/connection': ['nbd', 'linux', 'tls', 'worker/memory', 'worker/flight'],
  'worker/disk': [
    'nbd',
    'fuse',
    'linux',
    'worker/memory',
    'worker/stats',
    'worker/device',
    'worker/flight',
    'worker/connection',
  ],
  'worker/request': [
    'nbd',
    'fuse',
    'linux',
    ...workerUpTo('disk').filter((room) => room !== 'worker/contract'),
  ],
  'worker/fuse': ['nbd', 'fuse', ...without(workerUpTo('request'), 'worker/connection')],
  'worker/loop': ['nbd', 'linux', ...without(workerUpTo('request'), 'worker/stats')],
  'worker/read-threads': ['fuse', 'linux', ...workerUpTo('loop')],
  worker: [
    'nbd',
    'linux',
    ...without(workerUpTo('loop'), 'worker/memory', 'worker/flight'),
    'worker/read-threads',
    'chunks/contract',
    'chunks/cache',
  ],
  'worker/host': ['nbd', 'linux', 'tls', 'worker', 'worker/contract', 'worker/read-threads'],
  'chunks/contract': [],
  'chunks/cache': ['linux', 'partitions', 'chunks/contract'],
  'chunks/status': ['linux', 'transport', 'chunks/contract'],
  'chunks/serve': ['nbd', 'linux', 'chunks/contract'],
  'chunks/decode': ['linux', 'chunks/contract'],
  'chunks/points': ['chunks/contract', 'chunks/decode'],
  'chunks/schedule': ['chunks/contract'],
  'chunks/reader': [
    'partitions',
    'chunks/contract',
    'chunks/cache',
    'chunks/decode',
    'chunks/points',
    'chunks/schedule',
  ],
  'chunks/input': ['nbd', 'linux', 'client', 'transport', 'chunks/contract'],
  'chunks/disk': ['nbd', 'client', 'chunks/contract', 'chunks/reader'],
  chunks: [
    'nbd',
    'chunks/contract',
    'chunks/cache',
    'chunks/decode',
    'chunks/serve',
    'chunks/reader',
    'chunks/input',
    'chunks/disk',
  ],
  session: [
    'nbd',
    'fuse',
    'linux',
    'partitions',
    'transport',
    'mount',
    'fuse-native',
    'worker',
    'worker/contract',
    'worker/host',
    'chunks/contract',
    'chunks/cache',
    'chunks/status',
  ],
  cli: [
    'nbd',
    'linux',
    'transport',
    'mount',
    'image',
    'session',
    'worker',
    'worker/contract',
    'worker/stats',
    'chunks/contract',
    'chunks/cache',
  ],
  shell: ['nbd', 'client'],
  'index.ts': ['nbd', 'transport', 'client', 'image'],
};

/** The room of Linux's constants, which every room may import. */
const EVERYBODYS = 'constants';

/** The task of each room, as docs/internals/architecture.md shows it. */
const TASKS: Readonly<Record<string, string>> = {
  constants: 'errno, open flags, poll events, file modes: for every room',
  nbd: 'the NBD protocol, pure: handshake, URIs, requests, replies, block rules',
  linux: 'the C library through koffi; errno, flags and other constants of Linux',
  fuse: 'the FUSE protocol and the tree of files, pure',
  partitions: 'partition tables and the sizes that disks claim, pure',
  tls: 'TLS 1.3 after the handshake: keys, records, moving a session to the worker',
  transport: 'from the name of a server to a negotiated connection; child processes',
  mount: 'mountpoints, mount options, mount(2), fusermount3',
  client: 'NbdClient, the library',
  image: 'from the name of an image to the server for it',
  proxy: 'nbdfuse-proxy, which stands between two servers of an image',
  'fuse-native': 'the second backend',
  'worker/memory': 'buffer pool, arena, 64-bit numbers, ranges, assertions',
  'worker/stats': 'counters, latency, when to flush',
  'worker/contract': 'all messages between main thread, worker and read threads; the form of the status',
  'worker/device':
    'one /dev/fuse descriptor; signals of a requester; system calls that the simulator replaces',
  'worker/flight': 'the tables of requests and commands; the splice pipes',
  'worker/connection': 'one connection: sending, receiving, TLS records, zero-copy send',
  'worker/disk': 'one export: connections, order of changes, unflushed writes, recovery, extents',
  'worker/request': 'the engine and its READ, WRITE, FALLOCATE, LSEEK and FSYNC; read-ahead, trace',
  'worker/fuse':
    'dispatch by opcode; names and attributes; the directory of `--all`; partitions; passthrough',
  'worker/loop': 'poll, watchdog, shutdown',
  'worker/read-threads': 'threads that answer READs, off by default',
  worker: 'the worker thread',
  'worker/host': 'the worker as the main thread sees it',
  'chunks/contract': 'the types that the rooms of the chunk server share',
  'chunks/cache': 'decoded units in memory and in a file that outlives the process',
  'chunks/status':
    'the state of the chunk server, as the main thread of nbdfuse reads it; connections with the processes behind it',
  'chunks/serve': 'the NBD server of the chunk server: handshake, requests, inherited socket, control socket',
  'chunks/decode': 'decoders of compressed files, in native libraries',
  'chunks/points': 'restart points that a compressed file itself names',
  'chunks/schedule': 'which chunks are decoded, in which order, and how far; pure',
  'chunks/reader': 'reads of an image by its units: decode threads, passes, prefetching, traces',
  'chunks/input': 'the bytes of the compressed file: a local file, an NBD server',
  'chunks/disk': 'what the NBD server of an image serves: an image, or the disk of a server below',
  chunks: 'the program of the chunk server',
  session: 'one mount from start to end',
  cli: 'nbdfuse',
  shell: 'nbdsh',
  'index.ts': 'the library',
};

/** The table of rooms in Markdown. Rooms of the worker are short: `disk` for `worker/disk`. */
export function roomsTable(): string {
  const short = (room: string): string => (room.startsWith('worker/') ? room.slice('worker'.length) : room);
  const lines = Object.entries(ROOMS).map(
    ([room, others]) => `| \`${room}\` | ${TASKS[room]} | ${others.map(short).join(' ') || 'nothing'} |`,
  );
  return ['| room | task | may import |', '|---|---|---|', ...lines].join('\n');
}

/** The entry points of the program and of the library. */
const ENTRIES = [
  'src/index.ts',
  'src/chunks/main.ts',
  'src/chunks/reader/decode-thread.ts',
  'src/cli/early.ts',
  'src/cli/main.ts',
  'src/proxy/main.ts',
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
    found.push({ from: path, to });
  }
  return found;
}

/** The helpers that start servers and mounts may import one another, the source, and Node. */
const HELPERS_IMPORT = /^(\.\/|\.\.\/\.\.\/\.\.\/src\/|node:)/;

/** Imports in test/support/run that tools cannot use: vitest. */
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

/** Folders whose folders are rooms of their own. */
const NESTED = ['worker', 'chunks'];

/** The room of a file: `nbd` of src/nbd/wire.ts, `worker/disk` of src/worker/disk/disk.ts, `index.ts` of src/index.ts. */
function roomOf(path: string): string {
  const [, room = '', below = ''] = path.split('/');
  return NESTED.includes(room) && !below.endsWith('.ts') ? `${room}/${below}` : room;
}

/** Imports that go against the arrows, types included. */
export function wrongArrows(files: SourceFiles): string[] {
  const imports = [...files].flatMap(([path, text]) => importsOf(path, text));
  return imports
    .filter(({ from, to }) => roomOf(from) !== roomOf(to) && roomOf(to) !== EVERYBODYS)
    .filter(({ from, to }) => !(ROOMS[roomOf(from)] ?? []).includes(roomOf(to)))
    .map(({ from, to }) => `${from} must not import ${to}`);
}

/** Circles of imports, type imports included; and circles of rooms in the table. */
export function importCircles(files: SourceFiles): string[] {
  const circles: string[] = [];
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    if (trail.includes(path)) circles.push([...trail.slice(trail.indexOf(path)), path].join(' → '));
    if (trail.includes(path) || done.has(path)) return;
    for (const { to } of importsOf(path, files.get(path) ?? '')) visit(to, [...trail, path]);
    done.add(path);
  };
  for (const path of files.keys()) visit(path, []);
  return circles;
}

/** The files that `entries` import, directly or not, and `entries`. */
function reachedFrom(entries: readonly string[], files: SourceFiles): Set<string> {
  const reached = new Set<string>();
  const visit = (path: string): void => {
    if (reached.has(path)) return;
    reached.add(path);
    for (const { to } of importsOf(path, files.get(path) ?? '')) visit(to);
  };
  entries.forEach(visit);
  return reached;
}

/** Files that are not reachable from the entry points. */
export function deadFiles(files: SourceFiles): string[] {
  const reached = reachedFrom(ENTRIES, files);
  const isLive = (path: string): boolean => reached.has(path) || path.endsWith('.d.ts');
  return [...files.keys()].filter((path) => !isLive(path)).map((path) => `${path} is imported by nobody`);
}

/** The folders of src that the library consists of. */
export function libraryFolders(files: SourceFiles): string[] {
  const folders = [...reachedFrom(['src/index.ts'], files)].map(roomOf);
  return [...new Set(folders)].filter((name) => !name.endsWith('.ts')).sort();
}

/** The functions of `describe(…)` and `describe.each(…)(…)`: they only group tests. */
function groupsIn(text: string, { type, callee, arguments: given }: SyntaxNode & Record<string, unknown>) {
  if (type !== 'CallExpression' || !isNode(callee) || !Array.isArray(given)) return [];
  return /^describe\b/.test(text.slice(callee.start, callee.end)) ? given : [];
}

/** Functions that are too long, but for the groups of tests; a file is as long as its concept. */
export function tooLong(files: SourceFiles): string[] {
  const offences: string[] = [];
  for (const [path, text] of files) {
    const groups = new Set<unknown>();
    for (const node of nodesOf(path, text)) {
      for (const group of groupsIn(text, node)) groups.add(group);
      const { type, start, end } = node;
      if (!/^(Arrow)?Function(Declaration|Expression)$/.test(type) || groups.has(node)) continue;
      const lines = text.slice(start, end).split('\n').length;
      const at = text.slice(0, start).split('\n').length;
      if (lines > MAX_FUNCTION_LINES) offences.push(`${path}:${at}: a function of ${lines} lines`);
    }
  }
  return offences;
}

/** Functions with too many parameters. */
export function tooManyParameters(files: SourceFiles): string[] {
  const offences: string[] = [];
  for (const [path, text] of files) {
    for (const { type, start, params } of nodesOf(path, text)) {
      if (!/^(Arrow)?Function(Declaration|Expression)$/.test(type) || !Array.isArray(params)) continue;
      const at = text.slice(0, start).split('\n').length;
      if (params.length > MAX_PARAMETERS && path !== FOREIGN_SIGNATURES)
        offences.push(`${path}:${at}: ${params.length} parameters`);
    }
  }
  return offences;
}

const NOT_WRITTEN: Readonly<Record<string, string>> = {
  TSAnyKeyword: '`any`',
  TSNonNullExpression: 'a non-null `!`',
};

/** Places that switch the type checker off. */
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

/** The only file of src/worker that reads the machine's clocks: the simulator replaces it. */
const WORKER_CLOCKS = 'src/worker/device/system.ts';

/** Reads of the machine's clocks in src/worker, which the simulator does not see. */
export function clockReads(files: SourceFiles): string[] {
  const offences: string[] = [];
  for (const [path, text] of files) {
    if (!path.startsWith('src/worker/') || path === WORKER_CLOCKS) continue;
    for (const node of nodesOf(path, text)) {
      const { type, start, object, property, callee, arguments: given } = node;
      const isNow = type === 'MemberExpression' && isOneOf(object, CLOCKS) && isOneOf(property, ['now']);
      const isNewDate = type === 'NewExpression' && isOneOf(callee, ['Date']) && isEmpty(given);
      const isTimer = type === 'MemberExpression' && isOneOf(property, ['hrtime']);
      const at = text.slice(0, start).split('\n').length;
      if (isNow || isNewDate || isTimer) offences.push(`${path}:${at}: reads a clock past ${WORKER_CLOCKS}`);
    }
  }
  return offences;
}

const CLOCKS = ['Date', 'performance'];

const isOneOf = (node: unknown, names: readonly string[]): boolean =>
  isNode(node) && names.includes(String(node.name));

const isEmpty = (list: unknown): boolean => Array.isArray(list) && list.length === 0;

/** A folder of one machine or one user, as it would stand in a text. */
const MACHINE_PATH = /(?<![\w./-])\/(work|home|root|Users)\/[\w.-]+/g;

/** Paths that exist on one machine only. */
export function machinePaths(files: SourceFiles): string[] {
  return [...files].flatMap(([path, text]) =>
    [...text.matchAll(MACHINE_PATH)].map(({ 0: found }) => `${path}: ${found}`),
  );
}

/** Circles in a table of rooms. */
export function roomCircles(rooms: Readonly<Record<string, readonly string[]>> = ROOMS): string[] {
  const circles: string[] = [];
  const done = new Set<string>();
  const visit = (room: string, trail: readonly string[]): void => {
    if (trail.includes(room)) circles.push([...trail.slice(trail.indexOf(room)), room].join(' → '));
    if (trail.includes(room) || done.has(room)) return;
    for (const other of rooms[room] ?? []) visit(other, [...trail, room]);
    done.add(room);
  };
  for (const room of Object.keys(rooms)) visit(room, []);
  return circles;
}

/** Arrows of the table without an import: the table allows only what the source needs. */
export function unusedArrows(files: SourceFiles): string[] {
  const used = new Set(
    [...files].flatMap(([path, text]) =>
      importsOf(path, text).map(({ from, to }) => `${roomOf(from)} → ${roomOf(to)}`),
    ),
  );
  return Object.entries(ROOMS)
    .flatMap(([room, others]) => others.map((other) => `${room} → ${other}`))
    .filter((arrow) => !used.has(arrow));
}
