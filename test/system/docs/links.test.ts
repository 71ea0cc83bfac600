// The links between the pages of docs, and the tests that they name: each must exist.

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { expect, it } from 'vitest';
import { brokenLinks } from '../../support/links.js';

const ROOT = join(import.meta.dirname, '../../..');
const below = (folder: string): string[] => readdirSync(join(ROOT, folder), { recursive: true }).map(String);

const PAGES = below('docs')
  .filter((name) => name.endsWith('.md') && !name.startsWith('reference/api/'))
  .map((name) => `docs/${name}`)
  .concat('README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md');
const TESTS = new Set(below('test').map((path) => path.split('/').at(-1)));

const textOf = (page: string): string => readFileSync(join(ROOT, page), 'utf8');

it('docs: every link leads to a page and a heading', () => {
  expect(PAGES.length).toBeGreaterThan(40);
  expect(PAGES.flatMap((page) => brokenLinks(ROOT, page))).toEqual([]);
});

/** The pages that a page links to. */
function linkedFrom(page: string): string[] {
  const targets = [...textOf(page).matchAll(/\]\(([^)\s#]+)/g)].map(([, target]) => target);
  return targets.map((target) => relative(ROOT, join(ROOT, dirname(page), target)));
}

it('docs: README.md links to every page for users, and docs/README.md to every page', () => {
  const forUsers = PAGES.filter((page) => /^docs\/(guide|operating|reference)\//.test(page));
  expect(forUsers.length).toBeGreaterThan(20);
  const fromReadme = linkedFrom('README.md');
  expect(forUsers.filter((page) => !fromReadme.includes(page))).toEqual([]);
  const fromDocs = linkedFrom('docs/README.md');
  const isLinked = (page: string): boolean => fromDocs.includes(page) || fromDocs.includes(dirname(page));
  const lists = PAGES.filter((page) => page.startsWith('docs/') && !page.includes('/decisions/'));
  expect(lists.filter((page) => page !== 'docs/README.md' && !isLinked(page))).toEqual([]);
});

it('docs: every test that a page names exists', () => {
  const named = PAGES.flatMap((page) =>
    [...textOf(page).matchAll(/`([\w-]+\.test\.ts)`/g)].map(([, test]) => ({ page, test })),
  );
  expect(named.length).toBeGreaterThan(40);
  expect(named.filter(({ test }) => !TESTS.has(test))).toEqual([]);
});
