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

test('nbdfuse-library(3) lists only members of NbdClient and exports of the library', () => {
  const items = [...source('nbdfuse-library.3').matchAll(/^- (.*)\\$/gm)].map(([, names]) => names);
  const names = items.flatMap((item) => [...item.matchAll(/`([^`]+)`/g)].map(([, name]) => name));
  // `closed` is a field, which only an instance has.
  const known = [NbdClient.prototype, NbdClient, library].flatMap((one) => Object.getOwnPropertyNames(one));
  expect(names.length).toBeGreaterThan(30);
  expect(names.filter((name) => ![...known, 'closed'].includes(name))).toEqual([]);
});
