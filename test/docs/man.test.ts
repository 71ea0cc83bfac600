// The manual pages: complete, readable, and made of what is in docs/man.

import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, test } from 'vitest';
import { OPTIONS } from '../../src/cli/options.js';
import { MODE_WORDS } from '../../src/cli/server-mode.js';
import { requirePrograms } from '../helpers/requires.js';
import { tryProgram } from '../helpers/run.js';

requirePrograms('man', 'groff');

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const PAGES = readdirSync(`${ROOT}docs/man`).map((name) => name.replace(/\.md$/, ''));

const source = (page: string): string => readFileSync(`${ROOT}docs/man/${page}.md`, 'utf8');

/** A page as man shows it, without its layout. */
async function shown(page: string): Promise<string> {
  const words = ['MANWIDTH=2000', 'MANROFFOPT=-c', 'LC_ALL=C.UTF-8', 'man', '--warnings', '-l'];
  const { status, stdout, stderr } = await tryProgram('env', ...words, `${ROOT}man/${page}`);
  expect([status, stderr]).toEqual([0, '']);
  return lettersOf(stdout);
}

/** Letters and digits, with one space between words: what layout and emphasis leave alone. */
function lettersOf(text: string): string {
  return text.replace(/[^\p{L}\p{N}]+/gu, ' ');
}

test('manual pages: there is one for each program and for the library', () => {
  expect(PAGES).toEqual(['nbdfuse-library.3', 'nbdfuse.1', 'nbdsh.1']);
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
