import { mkdirSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { keepPath, keptPath, keptSearchPath } from '../../../src/linux/kept-path.js';
import { namesCovered } from '../../../src/session/kept-paths.js';
import { createScope } from '../../support/cleanup.js';

it('kept path: leads to a covered file through a descriptor, and to others by real paths', () => {
  const scope = createScope();
  const folder = realpathSync(scope.folder);
  mkdirSync(`${folder}/covered/inner`, { recursive: true });
  symlinkSync('covered/inner', `${folder}/link`);
  for (const name of ['link/file', 'beside']) writeFileSync(`${folder}/${name}`, name);
  const covered = `${folder}/covered`;
  for (const name of ['link/file', 'covered', 'beside', 'new', 'missing/file'])
    keepPath(`${folder}/${name}`, covered);
  expect(keptPath(`${folder}/link/file`)).toMatch(/^\/proc\/self\/fd\/\d+\/file$/);
  expect(readFileSync(keptPath(`${folder}/link/file`), 'utf8')).toBe('link/file');
  expect(keptPath(`${folder}/covered`)).toMatch(/^\/proc\/self\/fd\/\d+$/);
  for (const name of ['beside', 'new', 'missing/file', 'never kept'])
    expect(keptPath(`${folder}/${name}`)).toBe(`${folder}/${name}`);
});

it('kept path: PATH has absolute directories, and none that is covered', () => {
  const scope = createScope();
  const folder = realpathSync(scope.folder);
  mkdirSync(`${folder}/covered/bin`, { recursive: true });
  symlinkSync('covered/bin', `${folder}/link`);
  const PATH = `${folder}/covered/bin:/usr/bin:${folder}/link:tools:${folder}/covered`;
  expect(keptSearchPath(PATH, `${folder}/covered`)).toBe(`/usr/bin:${process.cwd()}/tools`);
  expect(keptSearchPath('/usr/bin:', undefined)).toBe(`/usr/bin:${process.cwd()}`);
});

it.each([
  ['/a/b/disk', true],
  ['file=/a/b/disk', true],
  ['dir=/a/b', true],
  ['json:{"filename":"/a/b/disk"}', true],
  ['/a/bc/disk', false],
  ['/x/a/b/disk', false],
  ['a/b', false],
])('kept path: finds covered paths in the words of a server: %s', (word, expected) => {
  expect(namesCovered(word, '/a/b')).toBe(expected);
});
