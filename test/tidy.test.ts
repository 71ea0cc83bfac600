import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  clockReads,
  deadFiles,
  importCircles,
  libraryFolders,
  machinePaths,
  roomCircles,
  roomsTable,
  type SourceFiles,
  testImports,
  tooLong,
  tooManyParameters,
  uncheckedTypes,
  unusedArrows,
  wrongArrows,
} from './support/source-rules.js';

const ROOT = join(import.meta.dirname, '..');
const TEXT_FILE = /\.(ts|mjs|js|json|md|sh|yml|yaml)$|^[^.]+$/;

/** The files in a folder of the repository, or the file itself, by their path from the root. */
function pathsBelow(path: string): string[] {
  if (statSync(join(ROOT, path)).isFile()) return [path];
  return readdirSync(join(ROOT, path)).flatMap((name) => pathsBelow(`${path}/${name}`));
}

function read(paths: readonly string[]): SourceFiles {
  return new Map(paths.map((path) => [path, readFileSync(join(ROOT, path), 'utf8')]));
}

const SOURCE = read(pathsBelow('src').filter((path) => path.endsWith('.ts')));
const HELPERS = read(pathsBelow('test/support/run'));

/** The paths of the files that are or could be committed. */
function committed(): string[] {
  const options = { cwd: ROOT, encoding: 'utf8' } as const;
  const list = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], options);
  return list.trimEnd().split('\n').filter(isThere);
}

const TEXTS = read(committed().filter((path) => TEXT_FILE.test(path.split('/').at(-1) ?? '')));
const ALL_TYPESCRIPT: SourceFiles = new Map([...TEXTS].filter(([path]) => /(?<!\.d)\.ts$/.test(path)));

function isThere(path: string): boolean {
  return statSync(join(ROOT, path), { throwIfNoEntry: false })?.isFile() === true;
}

describe('source', () => {
  it('imports along the arrows only', () => expect(wrongArrows(SOURCE)).toEqual([]));
  it('has no circles of imports, nor of rooms', () =>
    expect([...importCircles(SOURCE), ...roomCircles()]).toEqual([]));
  it('uses every arrow that it allows', () => expect(unusedArrows(SOURCE)).toEqual([]));
  it('passes a READ and a WRITE through at most ten files each, which docs/internals/architecture.md lists', () => {
    const page = readFileSync(join(ROOT, 'docs/internals/architecture.md'), 'utf8');
    const ways = [...page.matchAll(/^- (READ|WRITE): (.+)$/gm)];
    expect(ways.map(([, name]) => name)).toEqual(['READ', 'WRITE']);
    for (const [, , list] of ways) {
      const files = [...list.matchAll(/`([^`]+)`/g)].map(([, file]) => file);
      expect(files.length).toBeLessThanOrEqual(10);
      expect(new Set(files).size).toBe(files.length);
      for (const file of files)
        expect([...SOURCE.keys()]).toContain(`src/${file.startsWith('nbd/') ? '' : 'worker/'}${file}.ts`);
    }
  });
  it('has the rooms that docs/internals/architecture.md shows', () => {
    const page = readFileSync(join(ROOT, 'docs/internals/architecture.md'), 'utf8');
    expect(/<!-- rooms -->\n+(.*?)\n+<!-- \/rooms -->/s.exec(page)?.[1]).toBe(roomsTable());
  });
  it('has no file that nobody imports', () => expect(deadFiles(SOURCE)).toEqual([]));
  it('has short functions', () => expect(tooLong(ALL_TYPESCRIPT)).toEqual([]));
  it('has functions of at most five parameters', () => expect(tooManyParameters(ALL_TYPESCRIPT)).toEqual([]));
  it('reads the clocks of the worker through src/worker/device/system.ts only', () =>
    expect(clockReads(SOURCE)).toEqual([]));
  it('starts servers of tools without importing vitest', () => expect(testImports(HELPERS)).toEqual([]));
  it('packs for npm the folders that the library imports, and the bundled program', () => {
    const { files } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { files: string[] };
    const built = files
      .filter((path) => /^dist\/[\w/]+$/.test(path))
      .map((path) => path.replace('dist/', ''));
    expect(built).toEqual([...libraryFolders(SOURCE), 'program'].sort());
  });
  it('hides nothing from the type checker', () => expect(uncheckedTypes(ALL_TYPESCRIPT)).toEqual([]));
  it('contains no path of a particular machine', () => expect(machinePaths(TEXTS)).toEqual([]));
});

describe('source rules', () => {
  const long = (lines: number): string => '\n'.repeat(lines - 1);
  const cases: [string, (files: SourceFiles) => string[], Record<string, string>, RegExp][] = [
    [
      'an arrow the wrong way',
      wrongArrows,
      { 'src/nbd/a.ts': "import type { B } from '../linux/b.js';" },
      /must not import src\/linux\/b\.ts/,
    ],
    [
      'a re-export the wrong way',
      wrongArrows,
      { 'src/linux/a.ts': "export * from '../cli/b.js';" },
      /src\/cli\/b\.ts/,
    ],
    [
      'an import of a room that is not known',
      wrongArrows,
      { 'src/attic/a.ts': "import '../nbd/b.js';" },
      /attic/,
    ],
    [
      'a circle',
      importCircles,
      { 'src/nbd/a.ts': "import './b.js';", 'src/nbd/b.ts': "export { x } from './a.js';" },
      /a\.ts → src\/nbd\/b\.ts → src\/nbd\/a\.ts/,
    ],
    [
      'a circle of types',
      importCircles,
      { 'src/nbd/a.ts': "import type { B } from './b.js';", 'src/nbd/b.ts': "import './a.js';" },
      /a\.ts → src\/nbd\/b\.ts → src\/nbd\/a\.ts/,
    ],
    [
      'an arrow inside the worker the wrong way',
      wrongArrows,
      { 'src/worker/memory/a.ts': "import type { B } from '../disk/b.js';" },
      /must not import src\/worker\/disk\/b\.ts/,
    ],
    [
      'too many parameters',
      tooManyParameters,
      { 'src/a.ts': '\nconst f = (a, b, c, d, e, g) => a;' },
      /a\.ts:2: 6/,
    ],
    ['a dead file', deadFiles, { 'src/nbd/a.ts': '' }, /src\/nbd\/a\.ts is imported by nobody/],
    [
      'a long function',
      tooLong,
      { 'src/a.ts': `\nfunction f() {${long(71)}}` },
      /a\.ts:2: a function of 71 lines/,
    ],
    ['a long method', tooLong, { 'src/a.ts': `class A { f() {${long(80)}} }` }, /80 lines/],
    ['a long arrow function', tooLong, { 'src/a.ts': `const f = () => {${long(80)}};` }, /80 lines/],
    [
      'a helper of tools that needs vitest',
      testImports,
      { 'test/support/run/a.ts': "import { expect } from 'vitest';" },
      /must not import vitest/,
    ],
    ['a clock of the worker', clockReads, { 'src/worker/a.ts': '\nDate.now();' }, /a\.ts:2: reads a clock/],
    ['a monotonic clock', clockReads, { 'src/worker/a.ts': 'f(performance.now());' }, /reads a clock/],
    ['a new Date', clockReads, { 'src/worker/a.ts': 'f(new Date());' }, /reads a clock/],
    ['any', uncheckedTypes, { 'src/a.ts': '\nlet a: Map<string, any>;' }, /a\.ts:2: `any`/],
    ['a non-null assertion', uncheckedTypes, { 'src/a.ts': 'a!.b;' }, /non-null/],
    ['a silenced checker', uncheckedTypes, { 'src/a.ts': `// @ts-${'ignore'}\n` }, /@ts-/],
    ['a silenced linter', uncheckedTypes, { 'src/a.ts': `// biome-${'ignore'} lint: no` }, /biome-/],
    ['a machine path', machinePaths, { 'a.md': `see ${['', 'home', 'somebody'].join('/')}` }, /somebody/],
  ];

  it.each(cases)('find %s', (_, rule, files, expected) => {
    const offences = rule(new Map(Object.entries(files)));
    expect(offences).toHaveLength(1);
    expect(offences[0]).toMatch(expected);
  });

  it('accept a file that is loaded on demand', () => {
    const lazy = { 'src/cli/main.ts': "await import('../nbd/a.js');", 'src/nbd/a.ts': '' };
    expect(deadFiles(new Map(Object.entries(lazy)))).toEqual([]);
  });

  it('accept a long group of tests, but not a long test in it', () => {
    const groups = `describe('a', () => {${long(71)}});\ndescribe.each([1])('b', () => {${long(71)}});`;
    expect(tooLong(new Map([['a.test.ts', groups]]))).toEqual([]);
    const test = `describe('a', () => { it('b', () => {${long(71)}}); });`;
    expect(tooLong(new Map([['a.test.ts', test]]))).toHaveLength(1);
  });

  it('find a circle of rooms', () => {
    expect(roomCircles({ a: ['b'], b: ['c'], c: ['a'] })).toEqual(['a → b → c → a']);
  });
});
