// The manual pages: complete, readable, and made of docs/reference/man.

import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, test } from 'vitest';
import { OPTIONS } from '../../../src/cli/arguments/options.js';
import { MODE_WORDS } from '../../../src/cli/arguments/server-mode.js';
import { NbdClient } from '../../../src/client/client.js';
import * as library from '../../../src/index.js';
import { tryProgram } from '../../support/run/command.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('man', 'groff');

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const PAGES = readdirSync(`${ROOT}docs/reference/man`).map((name) => name.replace(/\.md$/, ''));

const source = (page: string): string => readFileSync(`${ROOT}docs/reference/man/${page}.md`, 'utf8');

/** A page as man shows it, without its layout. */
async function shown(page: string): Promise<string> {
  const words = ['MANWIDTH=2000', 'MANROFFOPT=-c', 'LC_ALL=C.UTF-8', 'man', '--warnings', '-l'];
  const { status, stdout, stderr } = await tryProgram('env', ...words, `${ROOT}man/${page}`);
  expect([status, stderr]).toEqual([0, '']);
  return lettersOf(stdout);
}

/** Letters and digits, with one space between words: independent of layout and emphasis. */
function lettersOf(text: string): string {
  return text.replace(/[^\p{L}\p{N}]+/gu, ' ');
}

test('manual pages: there is one for each program, for the library and for the helpers', () => {
  expect(PAGES).toEqual([
    'mount.fuse.nbdfuse.8',
    'nbdfuse-library.3',
    'nbdfuse.1',
    'nbdsh.1',
    'umount.fuse.nbdfuse.8',
  ]);
});

describe.each(PAGES)('manual page %s', (page) => {
  it('formats without a warning, and matches its source', async () => {
    const text = await shown(page);
    const paragraphs = source(page).split(/\n\n|\\\n|^- |^#+ .*--|^#+ /m);
    for (const paragraph of paragraphs) expect(text).toContain(lettersOf(paragraph).trim());
  });
});

test('manual page nbdfuse(1): has every option and every way to name a server', () => {
  const text = source('nbdfuse.1');
  for (const name of [...OPTIONS.flatMap(({ names }) => names), ...MODE_WORDS]) {
    expect(text).toContain(`\`${name}\``);
  }
});

/** The exports of the library that a program can use, and the members of its clients. */
function libraryNames(): string[] {
  const statics = Object.getOwnPropertyNames(NbdClient).filter(
    (name) => !Object.hasOwn(Function.prototype, name),
  );
  const members = Object.getOwnPropertyNames(NbdClient.prototype).filter((name) => name !== 'constructor');
  // `closed` is a field, which only an instance has.
  return [...Object.keys(library), ...statics.filter((name) => name !== 'prototype'), ...members, 'closed'];
}

/** The names between backticks in a text. */
const quoted = (text: string): string[] => [...text.matchAll(/`([\w.]+)/g)].map(([, name]) => name);

test('nbdfuse-library(3) lists only members of NbdClient and exports of the library', () => {
  const items = [...source('nbdfuse-library.3').matchAll(/^- (.*)\\$/gm)].map(([, names]) => names);
  const names = items.flatMap(quoted);
  expect(names.length).toBeGreaterThan(30);
  expect(names.filter((name) => !libraryNames().includes(name))).toEqual([]);
});

test.each(['docs/reference/man/nbdfuse-library.3.md', 'docs/reference/library.md'])(
  '%s: names every export of the library and every member of NbdClient',
  (page) => {
    const names = quoted(readFileSync(`${ROOT}${page}`, 'utf8')).flatMap((name) => name.split('.'));
    expect(libraryNames().filter((name) => !names.includes(name))).toEqual([]);
  },
);
