// The links between the pages of a folder of Markdown documents.
//
// Used by the tests of docs, and of the package that contains them.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

/** The pages in a folder, relative. */
export function pagesBelow(folder: string): string[] {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  return names.filter((name) => name.endsWith('.md'));
}

/** A text without its blocks of code. */
const proseOf = (text: string): string => text.replace(/^```[\s\S]*?^```$/gm, '');

/** The names by which links reach places of a text: its headings, and those that it names itself. */
function anchorsOf(text: string): string[] {
  const own = [...text.matchAll(/<a id="([^"]+)"/g)].map(([, name]) => name);
  const headings = [...proseOf(text).matchAll(/^#+ (.*)$/gm)].map(([, heading]) => heading);
  const names = headings.map((heading) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
  // As on GitHub, the second heading of a name ends in -1.
  const numbered = names.map((name, i) => {
    const before = names.slice(0, i).filter((other) => other === name).length;
    return before === 0 ? name : `${name}-${before}`;
  });
  return [...own, ...numbered];
}

/** The links of a page that lead to no file or heading below the root, each with the page. */
export function brokenLinks(root: string, page: string): string[] {
  const textOf = (name: string): string => readFileSync(join(root, name), 'utf8');
  const known = new Map<string, string[]>();
  const anchorsIn = (file: string): string[] => {
    const names = known.get(file) ?? anchorsOf(textOf(file));
    known.set(file, names);
    return names;
  };
  const targets = [...proseOf(textOf(page)).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target);
  return targets
    .filter((target) => !/^\w+:/.test(target))
    .filter((target) => {
      const [path, anchor] = target.split('#');
      const file = path === '' ? page : relative(root, join(root, dirname(page), path));
      if (file.startsWith('..') || !existsSync(join(root, file))) return true;
      return anchor !== undefined && !anchorsIn(file).includes(anchor);
    })
    .map((target) => `${page}: ${target}`);
}
